//! The qform of a NIfTI header: the directions of the axes as a quaternion. A qform cannot hold shear.

use super::fields::Fields;
use crate::ct::affine::Affine;

/// Returns the affine by "Method 2" of `nifti1.h`, from a quaternion, voxel sizes [i, j, k] and an offset.
pub(super) fn affine(raw: &Fields, [x, y, z]: [f64; 3]) -> Affine {
    let [b, c, d] = raw.quatern;
    let vector = b * b + c * c + d * d;
    let a = (1.0 - vector).max(0.0).sqrt();
    // The quaternion may have any length, as in nibabel's `quat2mat`.
    let s = 2.0 / (a * a + vector);
    let rotation = [
        [1.0 - s * (c * c + d * d), s * (b * c - a * d), s * (b * d + a * c)],
        [s * (b * c + a * d), 1.0 - s * (b * b + d * d), s * (c * d - a * b)],
        [s * (b * d - a * c), s * (c * d + a * b), 1.0 - s * (b * b + c * c)],
    ];
    // qfac: the standard's library takes every value that is not negative, 0 included, as 1.
    let z = if raw.pixdim[0] < 0.0 { -z } else { z };
    let column = |axis: usize, size: f64| rotation.map(|row| row[axis] * size);
    Affine::from_columns(column(0, x), column(1, y), column(2, z), raw.qoffset)
}

/// Warns if the quaternion is longer than 1.
pub(super) fn warn(raw: &Fields, warnings: &mut Vec<String>) {
    let length = raw.quatern.iter().map(|v| v * v).sum::<f64>();
    // Headers may hold f32, so the quaternion of a half turn may be slightly longer than 1.
    if length > 1.0 + 1e-3 {
        warnings
            .push(format!("its qform's quaternion is of length {:.3}, where 1 is the most: only its direction was used", length.sqrt()));
    }
}

/// Writes the directions of `affine`, without its shear, into the qform. The origin is the sform's.
pub(super) fn set(raw: &mut Fields, affine: &Affine) {
    (raw.pixdim[0], raw.quatern) = quaternion(affine);
    raw.qoffset = raw.srow.map(|row| row[3]);
}

impl Fields {
    /// Adds a qform to a header whose only form is a sheared sform. The qform has the same axes without the shear, as
    /// nibabel's `strip_shears` makes them. SimpleITK refuses a file that has no form with axes at right angles.
    pub(in crate::ct) fn add_to_sheared(&mut self, affine: &Affine) {
        if self.qform_code == 0 && self.sform_code != 0 && affine.is_usable() && affine.is_sheared() {
            set(self, affine);
            self.qform_code = self.sform_code;
        }
    }
}

/// Returns the handedness (-1 if the third axis must be reversed) and the last three numbers of the quaternion of an
/// affine's rotation.
fn quaternion(affine: &Affine) -> (f64, [f64; 3]) {
    let qfac = affine.volume().signum();
    let r = affine.rotation().map(|[x, y, z]| [x, y, z * qfac]);
    let [xx, yy, zz] = [r[0][0], r[1][1], r[2][2]];
    // The squares of 2a, 2b, 2c and 2d. Dividing by the largest is the most accurate.
    let squares = [1.0 + xx + yy + zz, 1.0 + xx - yy - zz, 1.0 - xx + yy - zz, 1.0 - xx - yy + zz];
    let largest = (0..4).max_by(|&i, &j| squares[i].total_cmp(&squares[j])).expect("four");
    let twice = squares[largest].max(0.0).sqrt();
    let sum = |i: usize, j: usize| (r[i][j] + r[j][i]) / (2.0 * twice);
    let difference = |i: usize, j: usize| (r[i][j] - r[j][i]) / (2.0 * twice);
    let [a, b, c, d] = match largest {
        0 => [0.5 * twice, difference(2, 1), difference(0, 2), difference(1, 0)],
        1 => [difference(2, 1), 0.5 * twice, sum(0, 1), sum(0, 2)],
        2 => [difference(0, 2), sum(0, 1), 0.5 * twice, sum(1, 2)],
        _ => [difference(1, 0), sum(0, 2), sum(1, 2), 0.5 * twice],
    };
    // Readers assume that a is positive.
    let sign = if a < 0.0 { -1.0 } else { 1.0 };
    (qfac, [b, c, d].map(|v| sign * v))
}
