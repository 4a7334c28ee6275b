//! Voxel spacing: the number of voxels after resampling, and the axis that is resampled separately.

use crate::vit::config::MAX_SIDE;

/// The rule for when nnU-Net resamples the axis of the largest spacing separately: planes across this axis one by one, by
/// splines, and then along the axis by nearest neighbour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Separate {
    /// `force_separate_z`: always, never, or, if none, when the spacings differ by more than `threshold`.
    pub forced: Option<bool>,
    /// The ratio of the largest to the smallest spacing, before or after resampling, above which slices are resampled
    /// one by one.
    pub threshold: f64,
    /// Whether `order_z` is 0, which is nearest neighbour, along the axis of the largest spacing.
    pub is_nearest: bool,
}

impl Separate {
    /// nnU-Net's `ANISO_THRESHOLD`.
    pub const THRESHOLD: f64 = 3.0;

    /// Returns the axis (0 slices, 1 rows, 2 columns) that is resampled separately from spacing `old` to `new`
    /// [z, y, x], or none if all axes are resampled together.
    ///
    /// # Errors
    /// If rows or columns would be resampled separately by splines, not by nearest neighbour.
    pub fn axis(self, old: [f64; 3], new: [f64; 3]) -> Result<Option<usize>, String> {
        let greatest = |s: [f64; 3]| s.into_iter().fold(0.0, f64::max);
        let differs = |s: &[f64; 3]| greatest(*s) / s.iter().copied().fold(f64::INFINITY, f64::min) > self.threshold;
        let deciding = match self.forced {
            Some(false) => None,
            Some(true) => Some(old),
            None => [old, new].into_iter().find(differs),
        };
        let Some(spacing) = deciding else { return Ok(None) };
        let coarse: Vec<usize> = (0..3).filter(|&axis| spacing[axis] >= greatest(spacing)).collect();
        match coarse[..] {
            [axis @ (1 | 2)] if !self.is_nearest => {
                let name = ["slices", "rows", "columns"][axis];
                let [z, y, x] = spacing;
                Err(format!(
                    "its spacing is {z} x {y} x {x} mm (slices, rows, columns): the plans ask for splines across {name} (order_z), and only nearest \
                     neighbours (order_z 0) are supported there; store it with thin {name} (as axial slices)"
                ))
            }
            [axis] => Ok(Some(axis)),
            _ => Ok(None),
        }
    }
}

/// Returns the number of voxels that `count` voxels become when resampled from spacing `old` to `new`. The operations
/// are in nnU-Net's order.
///
/// # Errors
/// If the result is 0 or above [`MAX_SIDE`].
pub(super) fn resampled(count: usize, old: f64, new: f64) -> Result<usize, String> {
    let size = (old / new * count as f64).round_ties_even();
    if (1.0..=MAX_SIDE as f64).contains(&size) {
        return Ok(size as usize);
    }
    Err(format!("{count} voxels {old} mm apart become {size} when they are {new} mm apart; expected 1 to {MAX_SIDE}: its spacing is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_resampled_alone_where_nnunet_does_so() {
        let auto = Separate { forced: None, threshold: Separate::THRESHOLD, is_nearest: true };
        let thin = [0.7, 0.7];
        for (old, axis) in [
            ([1.5, 0.7, 0.7], None),
            ([2.0, 0.7, 0.7], None),
            ([2.2, 0.7, 0.7], Some(0)),
            // Two coarse axes: neither is resampled separately.
            ([5.0, 5.0, 1.0], None),
            ([1.0, 5.0, 1.0], Some(1)),
            ([0.9, 0.9, 2.8], Some(2)),
            // Only the new spacing is anisotropic.
            ([2.2, 1.0, 1.0], Some(0)),
        ] {
            assert_eq!(auto.axis(old, [old[0], thin[0], thin[1]]), Ok(axis), "{old:?}");
        }
        let [never, always] = [false, true].map(|forced| Separate { forced: Some(forced), ..auto });
        assert_eq!(never.axis([9.0, 1.0, 1.0], [9.0, 1.0, 1.0]), Ok(None));
        assert_eq!(always.axis([1.1, 1.0, 1.0], [1.1, 1.0, 1.0]), Ok(Some(0)));
        let splines = Separate { is_nearest: false, ..auto };
        assert_eq!(splines.axis([9.0, 1.0, 1.0], [9.0, 1.0, 1.0]), Ok(Some(0)));
        assert!(splines.axis([1.0, 9.0, 1.0], [1.0, 9.0, 1.0]).is_err());
    }

    #[test]
    fn sizes_are_rounded_as_python_rounds() {
        for (count, old, new, want) in [(5, 0.5, 1.0, 2), (7, 0.5, 1.0, 4), (256, 0.8, 0.62, 330), (1, 1.0, 1.0, 1)] {
            assert_eq!(resampled(count, old, new), Ok(want));
        }
        assert!(resampled(1, 0.1, 1.0).is_err() && resampled(512, 1e6, 1.0).is_err() && resampled(2, f64::NAN, 1.0).is_err());
    }
}
