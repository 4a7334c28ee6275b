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

    /// The rotation (or reflection) nearest to its directions, as rows: what is left of them without shear. The affine
    /// must be usable.
    ///
    /// The orthogonal factor of their polar decomposition, by Newton's iteration `R <- (R + R^-T) / 2` (Higham 1986),
    /// which converges for every matrix that has an inverse.
    pub(super) fn rotation(&self) -> [[f64; 3]; 3] {
        let spacing = self.spacing();
        let mut r = self.rows.map(|row| [0, 1, 2].map(|axis| row[axis] / spacing[axis]));
        for _ in 0..64 {
            let cofactor = cofactors(&r);
            let det: f64 = (0..3).map(|i| r[0][i] * cofactor[0][i]).sum();
            let next: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| 0.5 * (r[i][j] + cofactor[i][j] / det)));
            let change = (0..9).map(|i| (next[i / 3][i % 3] - r[i / 3][i % 3]).abs()).fold(0.0, f64::max);
            r = next;
            if change < 1e-14 {
                break;
            }
        }
        r
    }

    /// Whether its directions are not at right angles: further off than SimpleITK 2.5 allows an sform. The affine must
    /// be usable.
    #[cfg(feature = "readers")]
    pub(super) fn is_sheared(&self) -> bool {
        const MOST: f64 = 2e-5;
        let (rotation, spacing) = (self.rotation(), self.spacing());
        (0..9).map(|n| (n / 3, n % 3)).any(|(i, j)| (self.rows[i][j] / spacing[j] - rotation[i][j]).abs() > MOST)
    }

    /// The volume that a step along each axis spans, in mm³; negative where the axes are left-handed.
    pub(super) fn volume(&self) -> f64 {
        let rows = self.rows.map(|[column, row, slice, _]| [column, row, slice]);
        let cofactor = cofactors(&rows);
        (0..3).map(|i| rows[0][i] * cofactor[0][i]).sum()
    }

    /// Whether every entry is finite and the three directions span space: what an affine from a file must satisfy before it is used.
    pub fn is_usable(&self) -> bool {
        let [x, y, z] = self.spacing();
        self.rows.iter().flatten().all(|v| v.is_finite()) && x * y * z > 0.0 && (self.volume() / (x * y * z)).abs() > 1e-3
    }
}

/// The inverse's transpose times the determinant.
fn cofactors(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let at = |i: usize, j: usize| m[i % 3][j % 3];
    std::array::from_fn(|i| std::array::from_fn(|j| at(i + 1, j + 1) * at(i + 2, j + 2) - at(i + 1, j + 2) * at(i + 2, j + 1)))
}

impl fmt::Display for Affine {
    /// As JSON: the four rows of the 4 x 4 matrix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.rows;
        write!(f, "[{x:?}, {y:?}, {z:?}, [0.0, 0.0, 0.0, 1.0]]")
    }
}
