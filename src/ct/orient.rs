//! The orientation in which a volume's slices are read.

use std::fmt;
use std::str::FromStr;

use super::source::StoredScan;
use super::turn::Turn;
use crate::error::Error;

/// A scan is oblique if its axes deviate from the patient's by more than this angle, in degrees.
const OBLIQUE: f64 = 0.1;
/// A picture is stretched if a pixel's sides differ by more than this, relative to each other.
const STRETCHED: f64 = 1e-3;

/// How a volume's axes are reordered and reversed before its slices are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orient {
    /// Axial slices as DICOM viewers show them, whatever the storage order: columns run to the patient's left, rows to
    /// posterior, slices to superior, so slice 0 is the most inferior one. A scan without an affine is assumed to be in
    /// this orientation already.
    #[default]
    Lps,
    /// Slices as the file stores them.
    Stored,
}

impl Orient {
    /// Turns `stored`, and adds a warning if the scan is oblique or its pixels are not square. A scan without an affine
    /// stays as it is, because the directions of its axes are unknown.
    ///
    /// # Errors
    /// If the orientation needs the affine and the file's affine is invalid, or if a slice would be too large.
    pub(super) fn apply(self, mut stored: StoredScan) -> Result<StoredScan, String> {
        let Some(affine) = stored.affine else { return Ok(stored) };
        if !affine.is_usable() {
            let nonsense = format!("its affine makes no sense: {affine}, expected finite numbers and three independent directions");
            if self == Self::Lps {
                return Err(format!("{nonsense}; correct its header, or read the slices as they are stored with `orient` stored"));
            }
            stored.warnings.push(format!("{nonsense}; the position of its voxels is not known"));
            stored.affine = None;
            return Ok(stored);
        }
        if self == Self::Lps {
            let turn = Turn::to_lps(&affine);
            let angle = turn.off_axis(&affine);
            if angle > OBLIQUE {
                let text = format!(
                    "oblique: its axes are up to {angle:.1} degrees off the patient's; slices follow the nearest ones, not resampled"
                );
                stored.warnings.push(text);
            }
            stored = turn.apply(stored)?;
        }
        if let Some([column, row, _]) = stored.affine.map(|affine| affine.spacing())
            && (column / row - 1.0).abs() > STRETCHED
        {
            let text = format!("its slices have pixels {column:.3} mm wide and {row:.3} mm high: the model sees the picture stretched");
            stored.warnings.push(text);
        }
        Ok(stored)
    }
}

impl FromStr for Orient {
    type Err = Error;

    /// Parses `lps` or `stored`.
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
