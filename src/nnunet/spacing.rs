//! Voxel spacing: the number of voxels after resampling, and whether a scan is resampled slice by slice.

use crate::vit::config::MAX_SIDE;

/// The rule for when nnU-Net resamples slice by slice, with the slices across the axis of the largest spacing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Separate {
    /// `force_separate_z`: always, never, or, if none, when the spacings differ by more than `threshold`.
    pub forced: Option<bool>,
    /// The ratio of the largest to the smallest spacing, before or after resampling, above which slices are resampled
    /// one by one.
    pub threshold: f64,
}

impl Separate {
    /// nnU-Net's `ANISO_THRESHOLD`.
    pub const THRESHOLD: f64 = 3.0;

    /// Returns whether resampling from spacing `old` to `new` [z, y, x] is done slice by slice.
    ///
    /// # Errors
    /// If nnU-Net would resample separately across rows or columns, because their spacing is the largest and differs
    /// from the others as the rule says. It would use nearest neighbours there, which is not supported.
    pub fn by_slice(self, old: [f64; 3], new: [f64; 3]) -> Result<bool, String> {
        let greatest = |s: [f64; 3]| s.into_iter().fold(0.0, f64::max);
        let differs = |s: &[f64; 3]| greatest(*s) / s.iter().copied().fold(f64::INFINITY, f64::min) > self.threshold;
        let deciding = match self.forced {
            Some(false) => None,
            Some(true) => Some(old),
            None => [old, new].into_iter().find(differs),
        };
        let Some(spacing) = deciding else { return Ok(false) };
        let coarse: Vec<usize> = (0..3).filter(|&axis| spacing[axis] >= greatest(spacing)).collect();
        match coarse[..] {
            [0] => Ok(true),
            [axis] => {
                let name = ["slices", "rows", "columns"][axis];
                let [z, y, x] = spacing;
                Err(format!(
                    "its spacing is {z} x {y} x {x} mm (slices, rows, columns): across {name}, nnU-Net would take nearest neighbours, which is not supported; \
                     store it with thin {name} (as axial slices)"
                ))
            }
            _ => Ok(false),
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
        let auto = Separate { forced: None, threshold: Separate::THRESHOLD };
        let thin = [0.7, 0.7];
        for (old, by_slice) in [
            ([1.5, 0.7, 0.7], Some(false)),
            ([2.0, 0.7, 0.7], Some(false)),
            ([2.2, 0.7, 0.7], Some(true)),
            // Two coarse axes: neither is resampled separately.
            ([5.0, 5.0, 1.0], Some(false)),
            ([1.0, 5.0, 1.0], None),
            // Only the new spacing is anisotropic.
            ([2.2, 1.0, 1.0], Some(true)),
        ] {
            assert_eq!(auto.by_slice(old, [old[0], thin[0], thin[1]]).ok(), by_slice, "{old:?}");
        }
        let [never, always] = [false, true].map(|forced| Separate { forced: Some(forced), ..auto });
        assert_eq!(never.by_slice([9.0, 1.0, 1.0], [9.0, 1.0, 1.0]), Ok(false));
        assert_eq!(always.by_slice([1.1, 1.0, 1.0], [1.1, 1.0, 1.0]), Ok(true));
    }

    #[test]
    fn sizes_are_rounded_as_python_rounds() {
        for (count, old, new, want) in [(5, 0.5, 1.0, 2), (7, 0.5, 1.0, 4), (256, 0.8, 0.62, 330), (1, 1.0, 1.0, 1)] {
            assert_eq!(resampled(count, old, new), Ok(want));
        }
        assert!(resampled(1, 0.1, 1.0).is_err() && resampled(512, 1e6, 1.0).is_err() && resampled(2, f64::NAN, 1.0).is_err());
    }
}
