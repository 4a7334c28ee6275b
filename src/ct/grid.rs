//! A voxel grid in the terms of ITK, NRRD and MetaImage.

use super::affine::{Affine, PatientAxes};

/// Spacing, directions and origin of a voxel grid, with the patient's axes of ITK, LPS+: x grows to the patient's left,
/// y to posterior, z to superior.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grid {
    /// The distance between columns, rows and slices, in mm.
    pub spacing: [f64; 3],
    /// The unit vectors along which columns, rows and slices grow.
    pub directions: [[f64; 3]; 3],
    /// The centre of the first voxel, in mm.
    pub origin: [f64; 3],
}

impl Grid {
    /// Returns the steps in mm from a voxel to the next column, row and slice.
    pub fn steps(&self) -> [[f64; 3]; 3] {
        [0, 1, 2].map(|axis| self.directions[axis].map(|v| v * self.spacing[axis]))
    }

    /// Returns the affine in RAS+.
    pub fn affine(&self) -> Affine {
        let [column, row, slice] = self.steps();
        let affine = Affine::from_columns(column, row, slice, self.origin);
        Affine { rows: PatientAxes::Lps.to_ras(affine.rows) }
    }
}
