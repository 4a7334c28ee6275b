//! Normalisation of Hounsfield units to the range that the model was trained on.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// An intensity normalisation: clamp to [`lo`, `hi`], subtract `mean`, divide by `std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// The lower bound in HU.
    pub lo: f32,
    /// The upper bound in HU.
    pub hi: f32,
    /// The mean that is subtracted after clamping, in HU.
    pub mean: f32,
    /// The standard deviation that values are divided by, in HU.
    pub std: f32,
}

impl Window {
    /// The window of the MedDINOv3 authors' demo: the whole CT range, with the mean and standard deviation of the
    /// training data (CT-3M).
    pub const DEMO: Self = Self { lo: -1000.0, hi: 1000.0, mean: 65.108_42, std: 178.016_63 };

    /// Leaves values unchanged.
    pub const NONE: Self = Self { lo: f32::NEG_INFINITY, hi: f32::INFINITY, mean: 0.0, std: 1.0 };

    /// Normalises values in HU: `(clamp(hu, lo, hi) - mean) / (std + 1e-8)`. Each operation is rounded to f32, as in
    /// the authors' code.
    #[must_use]
    pub fn normalised(&self, hu: &[f32]) -> Vec<f32> {
        // Add in f64 and round once, as Python does before it passes the divisor to PyTorch.
        let divisor = (f64::from(self.std) + 1e-8) as f32;
        hu.iter().map(|v| (v.clamp(self.lo, self.hi) - self.mean) / divisor).collect()
    }
}

impl FromStr for Window {
    type Err = Error;

    /// Parses `demo`, `none` or `LO,HI,MEAN,STD` in HU.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::option("window", format!("'{text}' is neither demo, nor none, nor LO,HI,MEAN,STD in HU{why}"));
        match text {
            "demo" => return Ok(Self::DEMO),
            "none" => return Ok(Self::NONE),
            _ => {}
        }
        let numbers = text.split(',').map(|number| number.trim().parse::<f32>()).collect::<Result<Vec<_>, _>>().map_err(|_| wrong(""))?;
        match numbers[..] {
            _ if numbers.iter().any(|v| !v.is_finite()) => Err(wrong(": a number is not finite")),
            [lo, hi, ..] if lo >= hi => Err(wrong(": LO must be below HI")),
            [_, _, _, std] if std <= 0.0 => Err(wrong(": STD must be above 0")),
            [lo, hi, mean, std] => Ok(Self { lo, hi, mean, std }),
            _ => Err(wrong("")),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DEMO => f.write_str("demo"),
            Self::NONE => f.write_str("none"),
            Self { lo, hi, mean, std } => write!(f, "{lo},{hi},{mean},{std}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_and_shown_alike() {
        for text in ["demo", "none", "-160,240,40,80.5"] {
            assert_eq!(text.parse::<Window>().expect(text).to_string(), text);
        }
        for text in
            ["", "Demo", "1,2,3", "1,2,3,4,5", "240,-160,0,1", "0,0,0,1", "0,1,0,0", "0,1,0,-2", "0,1,nan,1", "-inf,1,0,1", "a,b,c,d"]
        {
            let error = text.parse::<Window>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("window: '{text}' is neither")), "{error}");
        }
    }

    #[test]
    fn no_window_changes_nothing() {
        assert_eq!(Window::NONE.normalised(&[-3024.5, 0.0, 30_000.0]), [-3024.5, 0.0, 30_000.0]);
    }

    #[test]
    fn the_constants_are_the_authors() {
        assert_eq!(Window::DEMO.mean.to_bits(), (65.108_421_325_683_6_f64 as f32).to_bits());
        assert_eq!(Window::DEMO.std.to_bits(), (178.016_632_080_078_12_f64 as f32).to_bits());
    }

    #[test]
    fn values_beyond_the_window_are_its_ends() {
        let (lo, hi) = ((-1000.0 - 65.108_42) / 178.016_63, (1000.0 - 65.108_42) / 178.016_63);
        assert_eq!(Window::DEMO.normalised(&[-3024.0, -1000.0, 1000.0, 30_000.0]), [lo, lo, hi, hi]);
    }
}
