//! Standardisation: each channel minus its mean, divided by its standard deviation.

use super::rows::Rows;
use crate::error::Result;
use crate::parallel;

/// Rows that one step of the sums takes.
const BLOCK: usize = 4096;

/// Mean and scale of each channel. The scale is 1 / standard deviation, or 1 for a channel that does not vary, as in
/// scikit-learn's `StandardScaler`. The deviation divides by N.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    /// `[D]`
    pub mean: Vec<f64>,
    /// `[D]`
    pub scale: Vec<f64>,
}

impl Standard {
    /// Leaves vectors of `width` channels as they are.
    pub fn none(width: usize) -> Self {
        Self { mean: vec![0.0; width], scale: vec![1.0; width] }
    }

    /// Measures `rows`.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn of(rows: &dyn Rows) -> Result<Self> {
        let (n, width) = (rows.count(), rows.width());
        let moment = |mean: Option<&[f64]>| -> Result<Vec<f64>> {
            let sums = parallel::map(n.div_ceil(BLOCK), |block| {
                let (mut buffer, mut sums) = (Vec::new(), vec![0.0; width]);
                let values = rows.read(block * BLOCK, BLOCK.min(n - block * BLOCK), &mut buffer)?;
                for row in values.chunks_exact(width) {
                    match mean {
                        None => sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v)),
                        Some(mean) => sums.iter_mut().zip(row).zip(mean).for_each(|((sum, v), m)| *sum += (f64::from(*v) - m).powi(2)),
                    }
                }
                Ok(sums)
            });
            let mut total = vec![0.0; width];
            for sums in sums {
                total.iter_mut().zip(sums?).for_each(|(total, sum)| *total += sum / n as f64);
            }
            Ok(total)
        };
        let mean = moment(None)?;
        let variance = moment(Some(&mean))?;
        // Rounding alone makes a constant channel's variance as large as this.
        let least = |mean: f64| 10.0 * f64::EPSILON * (n as f64 * f64::EPSILON * mean * mean).max(f64::MIN_POSITIVE);
        let scale = variance.iter().zip(&mean).map(|(v, m)| if *v > least(*m) { 1.0 / v.sqrt() } else { 1.0 }).collect();
        Ok(Self { mean, scale })
    }
}
