//! Parses the name that users give a model: a file, or `seeded:N` for untrained weights.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use super::config::ModelSize;
use super::model::Model;
use crate::error::{Error, Result};

/// The source of a model's weights, as a flag or a field of a form names it.
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
        /// The seed from which the weights are computed.
        seed: u64,
        /// The size of the model.
        size: ModelSize,
    },
}

impl ModelSource {
    /// Parses `text`. Any text that does not begin with `seeded:` is a path, which need not be Unicode.
    ///
    /// # Errors
    /// If the text begins with `seeded:`, and no whole number follows, or an unknown size follows the number.
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

/// Parses `seeded:N` or `seeded:N:SIZE`.
fn seeded(name: &str) -> Option<ModelSource> {
    let rest = name.strip_prefix("seeded:")?;
    let (seed, size) = match rest.split_once(':') {
        Some((seed, size)) => (seed, size.parse().ok()?),
        None => (rest, ModelSize::Base),
    };
    Some(ModelSource::Seeded { seed: seed.parse().ok()?, size })
}
