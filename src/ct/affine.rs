//! Where voxels lie in the patient.

use std::fmt;

/// From voxel indices to millimetres in the patient: `rows * [column, row, slice, 1] = [x, y, z]`.
///
/// Indices count from 0 and mean a voxel's centre. The patient's axes are those of NIfTI and nibabel, RAS+: x grows towards the patient's right,
/// y towards anterior, z towards superior. DICOM's x and y are the negative of these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// The first three rows of the 4 x 4 matrix; the last is `[0, 0, 0, 1]`.
    pub rows: [[f64; 4]; 3],
}

impl Affine {
    /// The affine whose columns are the millimetres gained per `column`, `row` and `slice`, and the `origin`: the centre of voxel (0, 0, 0).
    pub fn from_columns(column: [f64; 3], row: [f64; 3], slice: [f64; 3], origin: [f64; 3]) -> Self {
        Self { rows: std::array::from_fn(|i| [column[i], row[i], slice[i], origin[i]]) }
    }

    /// Column `axis` of the matrix: the millimetres gained per step along the axis (0 column, 1 row, 2 slice), or the origin (3).
    pub fn column(&self, axis: usize) -> [f64; 3] {
        self.rows.map(|row| row[axis])
    }

    /// The point in the patient at `index` = [column, row, slice], which may lie between voxels, in mm.
    pub fn apply(&self, index: [f64; 3]) -> [f64; 3] {
        self.rows.map(|row| row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3])
    }

    /// The distance between neighbours along column, row and slice, in mm.
    pub fn spacing(&self) -> [f64; 3] {
        [0, 1, 2].map(|axis| self.column(axis).iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    /// Whether every entry is finite and the three directions span space: what an affine from a file must satisfy before it is used.
    pub fn is_usable(&self) -> bool {
        let [c, r, s] = [0, 1, 2].map(|axis| self.column(axis));
        let volume = c[0] * (r[1] * s[2] - r[2] * s[1]) - c[1] * (r[0] * s[2] - r[2] * s[0]) + c[2] * (r[0] * s[1] - r[1] * s[0]);
        let [x, y, z] = self.spacing();
        self.rows.iter().flatten().all(|v| v.is_finite()) && x * y * z > 0.0 && (volume / (x * y * z)).abs() > 1e-3
    }
}

impl fmt::Display for Affine {
    /// As JSON: the four rows of the 4 x 4 matrix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.rows;
        write!(f, "[{x:?}, {y:?}, {z:?}, [0.0, 0.0, 0.0, 1.0]]")
    }
}
