//! A fitted head in a file, with what made it and what it may be applied to.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{Read, Seek};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kind::{self, agree, preprocessing};
use crate::archive::{Archive, ArchiveWriter, Dtype, TensorHeader};
use crate::ct::{Orient, Size, Window};
use crate::error::{Error, Problem, Result};
use crate::heads::{Linear, Link, Neighbours, Rows, Standard};
use crate::output::WRITTEN_BY;
use crate::tensor::Tensor;
use crate::vit::layers::Layers;

/// The key of a head's description in the metadata.
const KEY: &str = "head";
/// The most classes that a file may claim.
const MAX_CLASSES: usize = 1 << 12;

/// A classifier.
#[derive(Clone, Debug)]
pub enum Head {
    /// A linear classifier.
    Linear(Linear),
    /// Votes of the `k` nearest vectors.
    Neighbours {
        /// The vectors.
        bank: Neighbours,
        /// Number of votes.
        k: usize,
    },
}

impl Head {
    /// Returns the probability of each class for each of `rows`: [N, K].
    ///
    /// # Errors
    /// If the rows are of another width, or cannot be read.
    pub fn probabilities(&self, rows: &dyn Rows) -> Result<Vec<f64>> {
        match self {
            Self::Linear(linear) => linear.probabilities(rows),
            Self::Neighbours { bank, k } => Ok(bank.probabilities(rows, &[*k])?.remove(0)),
        }
    }

    /// Returns the number of channels of a vector.
    pub fn width(&self) -> usize {
        match self {
            Self::Linear(linear) => linear.width(),
            Self::Neighbours { bank, .. } => bank.width(),
        }
    }
}

/// What is known of a head: metadata of its file, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The names of the classes, in the order of probabilities.
    pub classes: Vec<String>,
    /// What the head may be applied to: the model, the preprocessing, and how vectors are made.
    pub features: BTreeMap<String, String>,
    /// The protocol and its hyper-parameters, as (name, text).
    pub protocol: BTreeMap<String, String>,
    /// How many rows each part has, and by what the parts were divided.
    pub split: BTreeMap<String, String>,
    /// The patients that the head was fitted to or chosen by.
    pub patients: Vec<String>,
    /// The report on the test part, if there is one.
    pub figures: Option<serde_json::Value>,
}

impl About {
    /// Reads the JSON that [`About::to_json`] wrote.
    ///
    /// # Errors
    /// If it is no such JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::option("about", e))
    }

    /// Returns it as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, lists and maps of texts are JSON")
    }

    /// Returns the preprocessing of the features that the head was fitted to. Messages call the head `name`.
    ///
    /// # Errors
    /// If they were no features of scans.
    pub fn preprocessing(&self, name: impl Display) -> Result<(Size, Window, Orient)> {
        preprocessing(&self.features, name)
    }

    /// Returns the blocks whose patch tokens, joined, the head was fitted to. Messages call the head `name`.
    ///
    /// # Errors
    /// If the file names something else than blocks.
    pub fn layers(&self, name: impl Display) -> Result<Layers> {
        kind::layers(&self.features).map_err(|problem| Error::input(name, problem.to_string()))
    }

    /// Checks that the head may be applied to features of the kind `found`.
    ///
    /// # Errors
    /// If the model, the preprocessing, or how vectors are made is another.
    pub fn check(&self, found: &BTreeMap<String, String>) -> Result<()> {
        agree(found, &self.features, "the features that the head was fitted to").map_err(|problem| Error::option("features", problem))
    }
}

/// A head and what is known of it.
#[derive(Clone, Debug)]
pub struct HeadFile {
    /// The classifier.
    pub head: Head,
    /// What made it.
    pub about: About,
}

#[derive(Serialize, Deserialize)]
struct Described {
    kind: Kind,
    #[serde(flatten)]
    about: About,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Softmax,
    OneAgainstRest,
    Neighbours { k: usize, temperature: f64 },
}

impl HeadFile {
    /// Writes the head to `path`: safetensors of f32, `weight` [rows, D], `bias` `[rows]`, `mean` and `scale` `[D]` of a
    /// linear head, or `bank` [N, D] and `labels` `[N]` of neighbours.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (kind, tensors) = self.tensors();
        let text = serde_json::to_string(&Described { kind, about: self.about.clone() }).map_err(|e| Error::output(path.display(), e))?;
        let metadata = BTreeMap::from([(WRITTEN_BY.into(), env!("CARGO_PKG_VERSION").into()), (KEY.into(), text)]);
        let stored =
            |(name, tensor): &(&str, Tensor)| (name.to_string(), TensorHeader { shape: tensor.shape().to_vec(), dtype: Dtype::F32 });
        let mut file = ArchiveWriter::create(path, &tensors.iter().map(stored).collect::<Vec<_>>(), &metadata)?;
        for (index, (_, tensor)) in tensors.iter().enumerate() {
            file.write(index, 0, tensor.data())?;
        }
        file.finish()
    }

    /// Returns the head as its file has it, with values in f32.
    #[must_use]
    pub fn as_stored(&self) -> Self {
        let mut stored = self.clone();
        if let Head::Linear(Linear { standard, weight, bias, .. }) = &mut stored.head {
            let all = [weight, bias, &mut standard.mean, &mut standard.scale];
            all.into_iter().flatten().for_each(|v| *v = f64::from(*v as f32));
        }
        stored
    }

    fn tensors(&self) -> (Kind, Vec<(&'static str, Tensor)>) {
        let tensor = |shape: &[usize], values: &[f64]| Tensor::new(shape, values.iter().map(|v| *v as f32).collect());
        match &self.head {
            Head::Linear(linear) => {
                let kind = if linear.link == Link::Softmax { Kind::Softmax } else { Kind::OneAgainstRest };
                let (rows, width) = (linear.logits(), linear.width());
                let weight = tensor(&[rows, width], &linear.weight);
                let [mean, scale] = [&linear.standard.mean, &linear.standard.scale].map(|values| tensor(&[width], values));
                (kind, vec![("weight", weight), ("bias", tensor(&[rows], &linear.bias)), ("mean", mean), ("scale", scale)])
            }
            Head::Neighbours { bank, k } => {
                let labels = bank.labels().iter().map(|label| *label as f64).collect::<Vec<_>>();
                let kind = Kind::Neighbours { k: *k, temperature: bank.temperature() };
                (kind, vec![("bank", bank.vectors()), ("labels", tensor(&[labels.len()], &labels))])
            }
        }
    }

    /// Reads a file written by [`HeadFile::save`].
    ///
    /// # Errors
    /// If the file cannot be read or holds no head.
    pub fn open(path: &Path) -> Result<Self> {
        Self::checked(Archive::open(path)).map_err(|problem| Error::input(path.display(), problem))
    }

    /// Reads the file that `reader` holds from its start to its end. Messages call it `name`.
    ///
    /// # Errors
    /// As [`HeadFile::open`].
    pub fn from_reader(name: impl Display, reader: impl Read + Seek + Send + 'static) -> Result<Self> {
        Self::checked(Archive::from_reader(reader)).map_err(|problem| Error::input(name, problem))
    }

    fn checked(archive: Result<Archive, Problem>) -> Result<Self, Problem> {
        let archive = archive?;
        let text = archive.metadata().get(KEY).ok_or("holds no head; expected a file that `meddino probe fit` wrote")?;
        let Described { kind, about } = serde_json::from_str(text).map_err(|e| Problem::from(e).within("its metadata describe no head"))?;
        let classes = about.classes.len();
        if !(2..=MAX_CLASSES).contains(&classes) {
            return Err(format!("names {classes} classes; expected from 2 to {MAX_CLASSES}").into());
        }
        let head = match kind {
            Kind::Neighbours { k, temperature } => {
                let bank = matrix(&archive, "bank")?;
                let found = values(&archive, "labels", &[bank.rows()])?;
                let labels: Vec<usize> = found.iter().map(|label| *label as usize).collect();
                if found.iter().any(|label| *label < 0.0 || label.fract() != 0.0) {
                    return Err("labels: expected whole numbers".into());
                }
                let bank = Neighbours::new(&bank, &labels, classes, temperature).map_err(|e| e.to_string())?;
                if k == 0 {
                    return Err("counts 0 neighbours".into());
                }
                Head::Neighbours { bank, k }
            }
            Kind::Softmax | Kind::OneAgainstRest => {
                let link = if matches!(kind, Kind::Softmax) { Link::Softmax } else { Link::OneAgainstRest };
                let weight = matrix(&archive, "weight")?;
                let (rows, width) = (weight.rows(), weight.cols());
                if rows != classes && !(rows == 1 && classes == 2 && link == Link::Softmax) {
                    return Err(format!("weight: expected a row for each of {classes} classes, found {rows}").into());
                }
                let standard = Standard { mean: values(&archive, "mean", &[width])?, scale: values(&archive, "scale", &[width])? };
                let weight = weight.data().iter().map(|v| f64::from(*v)).collect();
                Head::Linear(Linear { link, classes, standard, weight, bias: values(&archive, "bias", &[rows])? })
            }
        };
        Ok(Self { head, about })
    }
}

/// Reads the finite tensor `name` [N, D], neither of which is 0.
fn matrix(archive: &Archive, name: &str) -> Result<Tensor, Problem> {
    let shape = archive.tensors().get(name).map(|stored| stored.shape.clone()).ok_or_else(|| format!("holds no {name}"))?;
    if shape.len() != 2 || shape.contains(&0) {
        return Err(format!("{name}: expected [N, D], found {shape:?}").into());
    }
    let tensor = archive.read(name).map_err(|problem| problem.within(name))?;
    if tensor.is_finite() { Ok(tensor) } else { Err(format!("{name} holds NaN or infinity").into()) }
}

/// Reads the finite tensor `name` of `shape`.
fn values(archive: &Archive, name: &str, shape: &[usize]) -> Result<Vec<f64>, Problem> {
    let stored = archive.tensors().get(name).ok_or_else(|| format!("holds no {name}"))?;
    if stored.shape != shape {
        return Err(format!("{name}: expected {shape:?}, found {:?}", stored.shape).into());
    }
    let tensor = archive.read(name).map_err(|problem| problem.within(name))?;
    if !tensor.is_finite() {
        return Err(format!("{name} holds NaN or infinity").into());
    }
    Ok(tensor.data().iter().map(|v| f64::from(*v)).collect())
}
