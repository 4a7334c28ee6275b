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
    /// Returns the grid with the directions and the origin of `affine`, whose columns, rows and slices are `spacing`
    /// apart.
    pub fn of(affine: &Affine, spacing: [f64; 3]) -> Self {
        let lengths = affine.spacing();
        let directions = [0, 1, 2].map(|axis| lps(affine.column(axis)).map(|v| v / lengths[axis]));
        Self { spacing, directions, origin: lps(affine.column(3)) }
    }

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

/// Converts a vector between RAS+ and LPS+.
pub(super) fn lps([x, y, z]: [f64; 3]) -> [f64; 3] {
    // Subtracts from 0, because `-v` would turn 0 into -0.
    [0.0 - x, 0.0 - y, z]
}
