//! Which way round a volume is looked at.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// How a volume's axes are turned before its slices are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orient {
    /// Axial slices as DICOM shows them, whatever the storage order: columns run to the patient's left, rows to posterior, slices to superior,
    /// so slice 0 is the most inferior one. A scan that does not say how it lies is taken to lie so already.
    #[default]
    Lps,
    /// As the file stores them.
    Stored,
}

impl FromStr for Orient {
    type Err = Error;

    /// `lps` or `stored`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "lps" => Ok(Self::Lps),
            "stored" => Ok(Self::Stored),
            _ => Err(Error::option("orient", format!("'{text}' is neither lps nor stored"))),
        }
    }
}

impl fmt::Display for Orient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lps => "lps",
            Self::Stored => "stored",
        })
    }
}
