//! A model's weights that arrive shard by shard, each checked when it arrives.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::config::Config;
use super::weights::{Spec, Weights};
use crate::checkpoint::{Index, OwnShard, printable};
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;

/// What is known of a model while its shards arrive. The values themselves are not kept.
pub(crate) struct ArrivingWeights {
    source_name: String,
    index: Option<Index>,
    model: Option<ExpectedModel>,
    /// The names of the shards that have arrived, in their order.
    shards: Vec<String>,
}

/// The model that the first shard states.
struct ExpectedModel {
    config: Config,
    specs: BTreeMap<String, Spec>,
    /// Maps a parameter that has arrived to the index in `shards` of its shard.
    places: BTreeMap<String, usize>,
}

/// A shard whose names and shapes fit the model.
pub(crate) struct ArrivedShard {
    source_name: String,
    name: String,
    shard: OwnShard,
    config: Config,
    /// The parameters in the shard.
    specs: Vec<Spec>,
}

impl ArrivingWeights {
    /// Expects the shards of a model that messages call `source_name`.
    pub fn new(source_name: impl Into<String>) -> Self {
        Self { source_name: source_name.into(), index: None, model: None, shards: Vec::new() }
    }

    /// Expects the shards that the JSON of an index lists.
    pub fn with_index(source_name: impl Into<String>, index: &[u8]) -> Result<Self> {
        let mut arriving = Self::new(source_name);
        arriving.index = Some(Index::parse(index).map_err(|problem| Error::checkpoint(&arriving.source_name, problem))?);
        Ok(arriving)
    }

    /// Returns the names of the shards that the index lists and that have not arrived; empty without an index.
    pub fn missing(&self) -> Vec<String> {
        let listed = self.index.iter().flat_map(Index::shards);
        listed.filter(|shard| !self.has(shard)).map(String::from).collect()
    }

    fn has(&self, shard: &str) -> bool {
        self.shards.iter().any(|name| name == shard)
    }

    /// Opens the shard called `name` and checks it against the model, the index and the shards before it. It counts as
    /// arrived only after [`ArrivingWeights::accept`].
    pub fn open(&self, name: &str, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<ArrivedShard> {
        let opened = || -> Result<ArrivedShard, Problem> {
            self.check_name(name)?;
            let shard = OwnShard::open(Cursor::new(bytes))?;
            let config = Config::stated(shard.hints())?;
            self.check_index(name, &shard)?;
            let specs = match &self.model {
                Some(model) if model.config != config => {
                    let first = printable(&self.shards[0]);
                    return Err(format!("it states another configuration than the shard {first}; add the shards of one model").into());
                }
                Some(model) => self.specs_in(&model.specs, &model.places, name, &shard)?,
                None => self.specs_in(&specs_of(&config), &BTreeMap::new(), name, &shard)?,
            };
            Ok(ArrivedShard { source_name: self.source_name.clone(), name: name.into(), shard, config, specs })
        };
        opened().map_err(|problem| in_shard(&self.source_name, name, problem))
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        if self.has(name) {
            return Err("it was added already; add each shard once".into());
        }
        match &self.index {
            Some(index) if !index.shards().contains(name) => Err("the index does not list it; add the shards of this index".into()),
            _ => Ok(()),
        }
    }

    /// Checks that the shard holds the tensors that the index lists for it, and none of another shard.
    fn check_index(&self, name: &str, shard: &OwnShard) -> Result<(), String> {
        let Some(index) = &self.index else { return Ok(()) };
        if let Some(tensor) = index.tensors_of(name).find(|tensor| !shard.tensors().contains_key(*tensor)) {
            let tensor = printable(tensor);
            return Err(format!("{tensor} is missing from it, and the index lists it; download the shard again"));
        }
        for tensor in shard.tensors().keys() {
            if let Some(other) = index.shard_of(tensor).filter(|other| *other != name) {
                let (tensor, other) = (printable(tensor), printable(other));
                return Err(format!("{tensor} is in it, and should be in {other}, as the index says; download both again"));
            }
        }
        Ok(())
    }

    /// Returns the parameters in a shard, or an error if one is unknown, misshapen or in an earlier shard.
    fn specs_in(
        &self,
        known: &BTreeMap<String, Spec>,
        places: &BTreeMap<String, usize>,
        name: &str,
        shard: &OwnShard,
    ) -> Result<Vec<Spec>, String> {
        let mut specs = Vec::new();
        for (tensor, header) in shard.tensors() {
            let found = &header.shape;
            let Some(spec) = known.get(tensor) else {
                let tensor = printable(tensor);
                return Err(format!("{tensor} {found:?} is no tensor of the model that its metadata states; download the shard again"));
            };
            if spec.shape != *found {
                return Err(format!("{tensor} {found:?} instead of {:?}; download the shard again", spec.shape));
            }
            if let Some(&other) = places.get(tensor) {
                let (first, second) = (printable(&self.shards[other]), printable(name));
                return Err(format!("{tensor} occurs twice, in the shards {first} and {second}; keep the shards of one model together"));
            }
            specs.push(spec.clone());
        }
        Ok(specs)
    }

    /// Counts a shard as arrived.
    pub fn accept(&mut self, arrived: ArrivedShard) {
        let ArrivedShard { name, config, specs, .. } = arrived;
        let model = self.model.get_or_insert_with(|| ExpectedModel { specs: specs_of(&config), config, places: BTreeMap::new() });
        model.places.extend(specs.into_iter().map(|spec| (spec.name, self.shards.len())));
        self.shards.push(name);
    }

    /// Returns the model's configuration.
    ///
    /// # Errors
    /// If a shard or a tensor has not arrived.
    pub fn finish(self) -> Result<Config> {
        let error = |problem: String| Error::checkpoint(&self.source_name, problem);
        let missing: Vec<String> = self.missing().iter().map(|shard| printable(shard)).collect();
        if !missing.is_empty() {
            return Err(error(format!("shard {}: it is missing, and the index lists it; add every shard", missing.join(", "))));
        }
        let model = self.model.as_ref().ok_or_else(|| error("no shard was added; add every shard".into()))?;
        let missing = model.specs.values().filter(|spec| !model.places.contains_key(&spec.name));
        let missing: Vec<String> = missing.map(|spec| format!("{} {:?}", spec.name, spec.shape)).collect();
        if !missing.is_empty() {
            let shards: Vec<String> = self.shards.iter().map(|shard| printable(shard)).collect();
            let (shards, missing) = (shards.join(", "), missing.join(", "));
            return Err(error(format!("the shards {shards} do not hold the whole model; add every shard\n  missing: {missing}")));
        }
        Ok(model.config.clone())
    }
}

impl ArrivedShard {
    /// Returns names and shapes of the parameters in the shard.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// Reads a parameter as f32.
    ///
    /// # Errors
    /// If the parameter cannot be read, or a value is NaN or infinite.
    pub fn load(&self, spec: &Spec) -> Result<Tensor> {
        self.shard.load(&spec.name).map_err(|problem| in_shard(&self.source_name, &self.name, problem))
    }
}

fn in_shard(source_name: &str, shard: &str, problem: Problem) -> Error {
    Error::checkpoint(source_name, problem.within(format_args!("shard {}", printable(shard))))
}

/// Returns the parameters of a model by name.
fn specs_of(config: &Config) -> BTreeMap<String, Spec> {
    Weights::specs(config).leaves().into_iter().map(|spec| (spec.name.clone(), spec.clone())).collect()
}
