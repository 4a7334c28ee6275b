//! The affine transform from voxel indices to patient coordinates.

use std::fmt;

use crate::error::{Error, Result};

/// The largest deviation of a direction's length from 1.
const LENGTH: f64 = 1e-3;

/// The convention of coordinates that a caller gives: which way the patient's x, y and z axes grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatientAxes {
    /// To the patient's right, to anterior, to superior: NIfTI, nibabel, and [`Affine`].
    Ras,
    /// To the patient's left, to posterior, to superior: DICOM, ITK and SimpleITK.
    Lps,
}

impl PatientAxes {
    /// Converts `rows` (the x, y and z rows in these axes) to RAS+.
    pub(super) fn to_ras<const N: usize>(self, rows: [[f64; N]; 3]) -> [[f64; N]; 3] {
        // Subtract from 0, because `-v` would turn 0 into -0.
        let negative = |row: [f64; N]| row.map(|v| 0.0 - v);
        match (self, rows) {
            (Self::Ras, rows) => rows,
            (Self::Lps, [x, y, z]) => [negative(x), negative(y), z],
        }
    }
}

/// Maps voxel indices to millimetres in the patient: `rows * [column, row, slice, 1] = [x, y, z]`.
///
/// Indices count from 0 and refer to voxel centres. The patient's axes are those of NIfTI and nibabel, RAS+: x grows
/// towards the patient's right, y towards anterior, z towards superior. DICOM's x and y have the opposite signs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// The first three rows of the 4 x 4 matrix; the last is `[0, 0, 0, 1]`.
    pub rows: [[f64; 4]; 3],
}

impl Affine {
    /// Creates the affine from the values of SimpleITK's `GetSpacing`, `GetOrigin` and `GetDirection`, in the
    /// convention `axes` ([`PatientAxes::Lps`] for SimpleITK).
    ///
    /// `spacing` is the distance in mm between columns, rows and slices, in this order. `origin` is the centre of voxel
    /// (0, 0, 0) in mm. `direction` is a matrix, row by row: its columns are the unit vectors along which the column,
    /// row and slice indices grow. Directions need not be at right angles, because a tilted gantry shears them.
    ///
    /// # Errors
    /// If a number is not finite, a spacing is not above 0, or the directions are not three independent unit vectors.
    pub fn new(axes: PatientAxes, spacing: [f64; 3], origin: [f64; 3], direction: [[f64; 3]; 3]) -> Result<Self> {
        let is_finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
        if !is_finite(&spacing) || spacing.iter().any(|v| *v <= 0.0) {
            return Err(Error::option("spacing", format!("expected three distances above 0 in mm, found {spacing:?}")));
        }
        if !is_finite(&origin) {
            return Err(Error::option("origin", format!("expected three finite numbers in mm, found {origin:?}")));
        }
        let length = |axis: usize| direction.iter().map(|row| row[axis] * row[axis]).sum::<f64>().sqrt();
        if !is_finite(direction.as_flattened()) || (0..3).any(|axis| (length(axis) - 1.0).abs() > LENGTH) {
            let problem = format!("expected a matrix whose columns are of length 1, found {direction:?}");
            return Err(Error::option("direction", problem));
        }
        let rows = std::array::from_fn(|i| {
            let [x, y, z] = direction[i];
            [x * spacing[0], y * spacing[1], z * spacing[2], origin[i]]
        });
        let affine = Self { rows: axes.to_ras(rows) };
        if !affine.is_usable() {
            let problem = format!("expected three independent directions, found {direction:?}: two of them are one");
            return Err(Error::option("direction", problem));
        }
        Ok(affine)
    }

    /// Creates the affine from a 4 x 4 `matrix`, row by row, in the convention `axes` ([`PatientAxes::Ras`] for
    /// nibabel's `image.affine`). The matrix maps [column, row, slice, 1] to [x, y, z, 1] in mm.
    ///
    /// # Errors
    /// If a number is not finite, the last row is not [0, 0, 0, 1], or the three directions do not span space.
    pub fn from_matrix(axes: PatientAxes, matrix: [[f64; 4]; 4]) -> Result<Self> {
        let [x, y, z, last] = matrix;
        let affine = Self { rows: axes.to_ras([x, y, z]) };
        let is_last = last.iter().zip([0.0, 0.0, 0.0, 1.0]).all(|(found, expected)| (found - expected).abs() < 1e-9);
        if is_last && affine.is_usable() { Ok(affine) } else { Err(Error::option("affine", unusable(&affine, last))) }
    }

    /// Creates the affine from its columns: the step in mm per `column`, `row` and `slice`, and the `origin`, which is
    /// the centre of voxel (0, 0, 0).
    pub fn from_columns(column: [f64; 3], row: [f64; 3], slice: [f64; 3], origin: [f64; 3]) -> Self {
        Self { rows: std::array::from_fn(|i| [column[i], row[i], slice[i], origin[i]]) }
    }

    /// Returns column `axis` of the matrix: the step in mm along the axis (0 column, 1 row, 2 slice), or the origin
    /// (3).
    pub fn column(&self, axis: usize) -> [f64; 3] {
        self.rows.map(|row| row[axis])
    }

    /// Returns the point in the patient, in mm, at `index` = [column, row, slice]. The index may be fractional.
    pub fn apply(&self, index: [f64; 3]) -> [f64; 3] {
        self.rows.map(|row| row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3])
    }

    /// Returns the distance between neighbouring voxels along column, row and slice, in mm.
    pub fn spacing(&self) -> [f64; 3] {
        [0, 1, 2].map(|axis| self.column(axis).iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    /// Returns the rows of the rotation (or reflection) nearest to the affine's directions: the directions without
    /// their shear. The affine must be usable.
    ///
    /// The result is the orthogonal factor of the directions' polar decomposition. It is found with Newton's iteration
    /// `R <- (R + R^-T) / 2` (Higham 1986), which converges for every invertible matrix.
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

    /// Returns whether the directions deviate from right angles by more than SimpleITK 2.5 allows in an sform. The
    /// affine must be usable.
    #[cfg(feature = "readers")]
    pub(super) fn is_sheared(&self) -> bool {
        const MOST: f64 = 2e-5;
        let (rotation, spacing) = (self.rotation(), self.spacing());
        (0..9).map(|n| (n / 3, n % 3)).any(|(i, j)| (self.rows[i][j] / spacing[j] - rotation[i][j]).abs() > MOST)
    }

    /// Returns the volume spanned by one step along each axis, in mm³; negative where the axes are left-handed.
    pub(super) fn volume(&self) -> f64 {
        let rows = self.rows.map(|[column, row, slice, _]| [column, row, slice]);
        let cofactor = cofactors(&rows);
        (0..3).map(|i| rows[0][i] * cofactor[0][i]).sum()
    }

    /// Returns whether every entry is finite and the three directions span space. Callers check this before they use an
    /// affine from a file.
    pub fn is_usable(&self) -> bool {
        let [x, y, z] = self.spacing();
        self.rows.iter().flatten().all(|v| v.is_finite()) && x * y * z > 0.0 && (self.volume() / (x * y * z)).abs() > 1e-3
    }
}

/// Describes why `affine`, or the `last` row of the matrix it came from, cannot be used.
fn unusable(affine: &Affine, last: [f64; 4]) -> String {
    let [x, y, z] = affine.rows;
    format!(
        "expected finite numbers, three independent directions and a last row of [0, 0, 0, 1], found (in RAS+) [{x:?}, {y:?}, {z:?}, {last:?}]"
    )
}

/// Returns the cofactor matrix: the transpose of the inverse, times the determinant.
fn cofactors(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let at = |i: usize, j: usize| m[i % 3][j % 3];
    std::array::from_fn(|i| std::array::from_fn(|j| at(i + 1, j + 1) * at(i + 2, j + 2) - at(i + 1, j + 2) * at(i + 2, j + 1)))
}

impl fmt::Display for Affine {
    /// Writes the four rows of the 4 x 4 matrix as JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.rows;
        write!(f, "[{x:?}, {y:?}, {z:?}, [0.0, 0.0, 0.0, 1.0]]")
    }
}
