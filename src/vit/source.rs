//! A model as users name it in a text: a file, or `seeded:N` for untrained weights.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use super::config::ModelSize;
use super::model::Model;
use crate::error::{Error, Result};

/// Where a model's weights come from, as a flag or a field of a form names it.
///
/// ```
/// use meddino::vit::config::ModelSize;
/// use meddino::vit::source::ModelSource;
///
/// assert_eq!(ModelSource::parse("seeded:0:tiny")?, ModelSource::Seeded { seed: 0, size: ModelSize::Tiny });
/// assert_eq!(ModelSource::parse("MedDINOv3-B-CT3M.pth")?, ModelSource::File("MedDINOv3-B-CT3M.pth".into()));
/// # Ok::<(), meddino::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A checkpoint file, or the index of a sharded one.
    File(PathBuf),
    /// Untrained weights: `seeded:N`, `seeded:N:tiny` or `seeded:N:micro`.
    Seeded {
        /// What the weights are computed from.
        seed: u64,
        /// How large the model is.
        size: ModelSize,
    },
}

impl ModelSource {
    /// What `text` names. Whatever does not begin with `seeded:` is a path, which need not be Unicode.
    ///
    /// # Errors
    /// If it begins with `seeded:`, and no whole number or no known size follows.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self> {
        let text = text.as_ref();
        let Some(name) = text.to_str().filter(|name| name.starts_with("seeded:")) else { return Ok(Self::File(text.into())) };
        seeded(name).ok_or_else(|| {
            Error::option(
                "checkpoint",
                format!("{name} is no seeded model; expected seeded:N, seeded:N:tiny or seeded:N:micro, N a whole number from 0"),
            )
        })
    }

    /// Opens the model. Its weights are not read yet.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open(&self) -> Result<Model> {
        match self {
            Self::File(path) => Model::open(path),
            Self::Seeded { seed, size } => Ok(Model::seeded(*seed, *size)),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Seeded { seed, size: ModelSize::Base } => write!(f, "seeded:{seed}"),
            Self::Seeded { seed, size } => write!(f, "seeded:{seed}:{size}"),
        }
    }
}

/// The model that `seeded:N` or `seeded:N:SIZE` names.
fn seeded(name: &str) -> Option<ModelSource> {
    let rest = name.strip_prefix("seeded:")?;
    let (seed, size) = match rest.split_once(':') {
        Some((seed, size)) => (seed, size.parse().ok()?),
        None => (rest, ModelSize::Base),
    };
    Some(ModelSource::Seeded { seed: seed.parse().ok()?, size })
}
