//! The file formats of features.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::tensors::Output;
use crate::error::{Error, Result};

/// A file format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Every tensor and the metadata in one file.
    #[default]
    Safetensors,
    /// NumPy's zip archive: an array for each tensor, and the array `metadata`, a text in JSON.
    #[cfg(feature = "readers")]
    Npz,
    /// One NumPy array, with the metadata in a `.json` file of the same name next to it.
    #[cfg(feature = "readers")]
    Npy,
}

impl Format {
    /// Every format.
    pub const ALL: &[Self] = &[
        Self::Safetensors,
        #[cfg(feature = "readers")]
        Self::Npz,
        #[cfg(feature = "readers")]
        Self::Npy,
    ];

    /// Returns the format that the file extension of `path` names.
    pub fn of(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.to_lowercase().parse().ok()
    }

    /// Returns the format's file extension, without a dot.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            #[cfg(feature = "readers")]
            Self::Npz => "npz",
            #[cfg(feature = "readers")]
            Self::Npy => "npy",
        }
    }

    /// Returns the files that an output at `path` consists of: a `.npy` file comes with a `.json` file.
    pub fn files(self, path: &Path) -> Vec<PathBuf> {
        match self {
            #[cfg(feature = "readers")]
            Self::Npy => vec![path.into(), path.with_extension("json")],
            _ => vec![path.into()],
        }
    }

    /// Checks that a file of this format can hold `outputs`.
    ///
    /// # Errors
    /// If the format holds exactly one tensor, and another number is requested.
    pub fn check(self, outputs: &[Output]) -> Result<()> {
        #[cfg(feature = "readers")]
        if self == Self::Npy && outputs.len() != 1 {
            let names: Vec<String> = outputs.iter().map(ToString::to_string).collect();
            let problem = format!(
                "a .npy file holds one tensor, and these are asked for: {}; choose one (`tokens` patch, or `pool` cls), or write .npz or .safetensors",
                names.join(", ")
            );
            return Err(Error::option("format", problem));
        }
        let _ = outputs;
        Ok(())
    }
}

impl FromStr for Format {
    type Err = Error;

    /// Parses `safetensors`, `npz` or `npy`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.iter().map(|format| format.ending()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|format| format.ending() == text);
        found.copied().ok_or_else(|| Error::option("format", format!("'{text}' is none of {known}")))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ending())
    }
}
