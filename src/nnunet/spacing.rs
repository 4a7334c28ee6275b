//! Distances between voxels: how many there are after resampling, and whether slices are resampled each by itself.

use crate::vit::config::MAX_SIDE;

/// When nnU-Net resamples slice by slice, across the axis of the greatest spacing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Separate {
    /// `force_separate_z`: always, never, or where the spacings differ much.
    pub forced: Option<bool>,
    /// How many times the least spacing the greatest is then, before or after.
    pub threshold: f64,
}

impl Separate {
    /// nnU-Net's `ANISO_THRESHOLD`.
    pub const THRESHOLD: f64 = 3.0;

    /// Whether slices are resampled by themselves, from spacings `old` to `new` [z, y, x].
    ///
    /// # Errors
    /// If nnU-Net would go across the rows or columns of the slices, and take nearest neighbours there.
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

/// How many voxels `count` become from spacing `old` to `new`, in nnU-Net's order of operations.
///
/// # Errors
/// If there would be none, or absurdly many.
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
            // Two coarse axes: none is singled out.
            ([5.0, 5.0, 1.0], Some(false)),
            ([1.0, 5.0, 1.0], None),
            // The new spacing alone is anisotropic.
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
