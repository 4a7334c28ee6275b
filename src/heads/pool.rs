//! Pooling: the vectors of a scan's slices become one vector.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// How vectors are pooled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of each channel, summed in f64.
    #[default]
    Mean,
    /// The largest value of each channel.
    Max,
}

impl Pooling {
    /// Pools `vectors` [S, D], row-major, to `[D]`.
    ///
    /// # Panics
    /// If there is no vector, or the last is not `width` long.
    pub fn of(self, vectors: &[f32], width: usize) -> Vec<f32> {
        assert!(!vectors.is_empty() && vectors.len().is_multiple_of(width), "vectors of {width} channels");
        let rows = vectors.len() / width;
        let channel = |c: usize| vectors[c..].iter().step_by(width);
        match self {
            Self::Mean => (0..width).map(|c| (channel(c).map(|v| f64::from(*v)).sum::<f64>() / rows as f64) as f32).collect(),
            Self::Max => (0..width).map(|c| channel(c).copied().fold(f32::NEG_INFINITY, f32::max)).collect(),
        }
    }
}

impl FromStr for Pooling {
    type Err = Error;

    /// Parses `mean` or `max`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "mean" => Ok(Self::Mean),
            "max" => Ok(Self::Max),
            _ => Err(Error::option("pool", format!("expected mean or max, found {text}"))),
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Max => "max",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_pooled() {
        let vectors = [1.0, -5.0, 3.0, -7.0, 5.0, -6.0];
        assert_eq!(Pooling::Mean.of(&vectors, 2), [3.0, -6.0]);
        assert_eq!(Pooling::Max.of(&vectors, 2), [5.0, -5.0]);
        assert!("median".parse::<Pooling>().is_err());
    }
}
