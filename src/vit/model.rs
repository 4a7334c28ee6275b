//! A model from a checkpoint: its configuration, and weights that are loaded on demand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
#[cfg(feature = "files")]
use std::path::{Path, PathBuf};

use super::config::{Config, ModelSize, RopePrecision};
use super::weights::{Spec, Weights};
#[cfg(feature = "files")]
use crate::checkpoint::{self, CONFIG_KEY, Dtype};
use crate::checkpoint::{Checkpoint, Entry};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// How far a stored RoPE period may be from the computed one, relative to it. bf16 keeps 8 bits, so rounding alone
/// changes a period by up to 0.4 %.
const PERIOD_TOLERANCE: f32 = 0.01;

/// The most names of one kind that an error lists, because a checkpoint of another model may have thousands.
const LISTED: usize = 200;

/// A checkpoint that was checked to hold exactly one model.
pub struct Model {
    config: Config,
    checkpoint: Checkpoint,
    warnings: Vec<String>,
}

impl Model {
    /// Opens the checkpoint file at `path`: any container and layout that [`Checkpoint::open`] reads.
    ///
    /// Names and shapes are checked against the configuration. The weights themselves are not read yet.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Config::infer`], or if a tensor is missing, unexpected or misshapen: one error
    /// lists them all.
    #[cfg(feature = "files")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_checkpoint(Checkpoint::open(path)?)
    }

    /// Creates a model with untrained weights, computed from `seed` and bit-identical on every machine, for experiments
    /// and tests.
    pub fn seeded(seed: u64, size: ModelSize) -> Self {
        let config = size.config();
        let table = Weights::specs(&config).leaves().into_iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect();
        let suffix = if size == ModelSize::Base { String::new() } else { format!(":{size}") };
        let checkpoint = Checkpoint::seeded(seed, table).named(format!("seeded:{seed}{suffix}"));
        Self { config, warnings: checkpoint.warnings().to_vec(), checkpoint }
    }

    /// Builds the model of an open checkpoint.
    ///
    /// # Errors
    /// As [`Config::infer`], or if a tensor is missing, unexpected or misshapen: one error lists them all.
    pub fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self> {
        let config = Config::infer(&checkpoint)?;
        hold_against(&checkpoint, &config)?;
        let mut warnings = checkpoint.warnings().to_vec();
        if let Some(warning) = checkpoint.periods().and_then(|stored| strange_periods(stored, &config)) {
            log::warn!("{}: {warning}", checkpoint.source_name());
            warnings.push(warning);
        }
        Ok(Self { config, checkpoint, warnings })
    }

    /// Returns the model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sets the precision of the position embedding, which otherwise follows the kind of checkpoint.
    pub fn set_rope(&mut self, rope: RopePrecision) {
        self.config.rope = rope;
    }

    /// Returns the checkpoint that holds the weights.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Returns facts that may surprise a user: the checkpoint's warnings, and the model's.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the number of parameters.
    pub fn parameters(&self) -> usize {
        self.checkpoint.entries().iter().map(Entry::len).sum()
    }

    /// Loads all weights as f32. The file is read one tensor at a time, so memory peaks at the weights and one tensor's
    /// bytes.
    ///
    /// # Errors
    /// If a tensor cannot be read, or holds NaN or infinity.
    pub fn weights(&self) -> Result<Weights<Tensor>> {
        Weights::specs(&self.config).try_map(&mut |spec: &Spec| self.checkpoint.load(&spec.name))
    }

    /// Writes the model to `path` as safetensors of `dtype` (f32, f16 or bf16), under this crate's names, with the
    /// configuration in the metadata. [`Model::open`] opens the same model again; in f32 its weights are bit-identical.
    ///
    /// # Errors
    /// As [`checkpoint::write_safetensors`].
    #[cfg(feature = "files")]
    pub fn write_safetensors(&self, path: &Path, dtype: Dtype) -> Result<()> {
        self.write_safetensors_while(path, dtype, || Ok(()))
    }

    /// Writes the model as [`Model::write_safetensors`] does. `check` is called before each tensor; its error stops the
    /// write and leaves no file behind.
    ///
    /// # Errors
    /// As [`checkpoint::write_safetensors`], including any error of `check`.
    #[cfg(feature = "files")]
    pub fn write_safetensors_while(&self, path: &Path, dtype: Dtype, check: impl FnMut() -> Result<()>) -> Result<()> {
        checkpoint::write_safetensors(&self.checkpoint, path, dtype, &self.metadata(), check)
    }

    /// Writes the model into the empty or new `folder` as safetensors shards of `dtype`, with an index that states each
    /// shard's size and SHA-256. Returns the path of the index. `check` is called before each tensor, and its error
    /// stops the write.
    ///
    /// # Errors
    /// As [`checkpoint::write_shards`], including any error of `check`.
    #[cfg(feature = "files")]
    pub fn write_shards_while(&self, folder: &Path, dtype: Dtype, check: impl FnMut() -> Result<()>) -> Result<PathBuf> {
        checkpoint::write_shards(&self.checkpoint, folder, dtype, &self.metadata(), check)
    }

    /// Returns what a file of the model states beside its weights.
    #[cfg(feature = "files")]
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            // Python's loaders look for this entry before they read a safetensors file.
            ("format".to_string(), "pt".to_string()),
            (CONFIG_KEY.to_string(), self.config.to_json().to_string()),
        ])
    }
}

/// Checks the checkpoint's names and shapes against the model's. One error lists all differences.
fn hold_against(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    let specs = Weights::specs(config);
    let wanted: BTreeMap<&str, &[usize]> = specs.leaves().into_iter().map(|s| (s.name.as_str(), s.shape.as_slice())).collect();
    let found: BTreeMap<&str, &Entry> = checkpoint.entries().iter().map(|e| (e.name.as_str(), e)).collect();
    let place = |entry: &Entry| checkpoint.shard_of(&entry.name).map_or(String::new(), |shard| format!(" (in {shard})"));
    let missing = wanted.iter().filter(|(name, _)| !found.contains_key(*name)).map(|(name, shape)| format!("{name} {shape:?}")).collect();
    let unexpected =
        found.values().filter(|e| !wanted.contains_key(e.name.as_str())).map(|e| format!("{} {:?}{}", e.name, e.shape, place(e))).collect();
    let misshapen = found.values().filter_map(|e| {
        let shape = wanted.get(e.name.as_str()).filter(|shape| **shape != e.shape)?;
        Some(format!("{} {:?} instead of {shape:?}{}", e.name, e.shape, place(e)))
    });
    let kinds: [(&str, Vec<String>); 3] = [("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen.collect())];
    if kinds.iter().all(|(_, tensors)| tensors.is_empty()) {
        return Ok(());
    }
    let mut problem = format!(
        "({}) does not hold the model that it seems to be, {} wide and {} deep with {} heads and {} registers",
        checkpoint.layout(),
        config.embed_dim,
        config.depth,
        config.num_heads,
        config.n_storage_tokens
    );
    for (kind, tensors) in kinds.iter().filter(|(_, tensors)| !tensors.is_empty()) {
        let _ = write!(problem, "\n  {kind} ({}): {}", tensors.len(), tensors[..tensors.len().min(LISTED)].join(", "));
        if tensors.len() > LISTED {
            problem.push_str(", ...");
        }
    }
    Err(Error::checkpoint(checkpoint.source_name(), problem))
}

/// Returns a warning if the stored periods [D/4] are not `base^(2i / (D/2))`.
fn strange_periods(stored: &[f32], config: &Config) -> Option<String> {
    let n = config.head_dim() / 4;
    let computed = |i: usize| config.rope_base.powf(i as f32 / n as f32);
    let near = |(i, stored): (usize, &f32)| (stored / computed(i) - 1.0).abs() <= PERIOD_TOLERANCE;
    let agree = stored.len() == n && stored.iter().enumerate().all(near);
    (!agree).then(|| {
        format!(
            "the stored rope_embed.periods are not those of base {}; the computed ones are used: features may differ from the original's",
            config.rope_base
        )
    })
}
