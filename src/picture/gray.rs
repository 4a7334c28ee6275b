//! Radiological display windows, which map Hounsfield units to shades of gray.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::tensor::{Tensor, TensorView};

/// A display window: `level` is shown as middle gray, `level - width / 2` as black, `level + width / 2` as white.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gray {
    /// The middle of the window, in HU.
    pub level: f32,
    /// The distance from black to white, in HU.
    pub width: f32,
}

impl Gray {
    /// Level 40, width 400: the usual window for soft tissue.
    pub const SOFT_TISSUE: Self = Self { level: 40.0, width: 400.0 };

    /// Returns the window from the smallest to the largest value, for a picture that is not in HU.
    #[must_use]
    pub fn spanning<'a>(values: impl Into<TensorView<'a>>) -> Self {
        let (lo, hi) = crate::maps::limits(values);
        Self { level: f32::midpoint(lo, hi), width: (hi - lo).max(f32::MIN_POSITIVE) }
    }

    /// Converts `values` [H, W] to shades from 0 (black) to 1 (white).
    #[must_use]
    pub fn shades<'a>(&self, values: impl Into<TensorView<'a>>) -> Tensor {
        let values = values.into();
        let shade = |v: &f32| ((v - self.level) / self.width + 0.5).clamp(0.0, 1.0);
        Tensor::new(values.shape(), values.data().iter().map(shade).collect())
    }
}

impl FromStr for Gray {
    type Err = Error;

    /// Parses `LEVEL,WIDTH` in HU.
    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |s: &str| s.trim().parse::<f32>().ok().filter(|v| v.is_finite());
        let parsed = text.split_once(',').and_then(|(level, width)| Some((number(level)?, number(width)?)));
        match parsed {
            Some((level, width)) if width > 0.0 => Ok(Self { level, width }),
            _ => Err(Error::option(
                "gray",
                format!("'{text}' is not LEVEL,WIDTH in HU, WIDTH above 0; soft tissue is 40,400, lung -600,1500"),
            )),
        }
    }
}

impl fmt::Display for Gray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.level, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_and_applied() {
        assert_eq!(Gray::SOFT_TISSUE.to_string().parse::<Gray>().expect("its own text"), Gray::SOFT_TISSUE);
        let hu = Tensor::new([1, 5], vec![-1000.0, -160.0, 40.0, 140.0, 3000.0]);
        assert_eq!(Gray::SOFT_TISSUE.shades(&hu).data(), [0.0, 0.0, 0.5, 0.75, 1.0]);
        for text in ["", "40", "40,0", "40,-1", "a,b", "NaN,1", "1,inf", "1,2,3"] {
            assert!(text.parse::<Gray>().is_err(), "{text}");
        }
        // A picture of one value is middle gray.
        let flat = Tensor::new([1, 2], vec![7.0, 7.0]);
        assert_eq!(Gray::spanning(&flat).shades(&flat).data(), [0.5, 0.5]);
    }
}
