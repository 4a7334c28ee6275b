//! The header of a label map.

use super::fields::{Fields, SCANNER};
use super::layout::{NIFTI_1, NIFTI_2};
use super::qform;
use crate::ct::affine::Affine;

/// `NIFTI_UNITS_MM`.
const MILLIMETRES: i32 = 2;

impl Fields {
    /// Creates the fields of a volume of `shape` [S, H, W] with the voxel grid `affine`. The sform holds the affine,
    /// and the qform the affine without the shear of a tilted gantry.
    pub(in crate::ct) fn of([slices, height, width]: [usize; 3], affine: &Affine) -> Self {
        let [x, y, z] = affine.spacing();
        let mut fields = Self {
            is_f64: false,
            dim_info: 0,
            dim: [3, width as i64, height as i64, slices as i64, 1, 1, 1, 1],
            datatype: 0,
            bitpix: 0,
            pixdim: [1.0, x, y, z, 0.0, 0.0, 0.0, 0.0],
            vox_offset: 0.0,
            scl_slope: 1.0,
            scl_inter: 0.0,
            xyzt_units: MILLIMETRES,
            qform_code: SCANNER,
            sform_code: SCANNER,
            quatern: [0.0; 3],
            qoffset: [0.0; 3],
            srow: affine.rows,
        };
        qform::set(&mut fields, affine);
        fields
    }

    /// Returns the header of a single file of labels in this grid, up to the voxels, which are unsigned little-endian
    /// integers of `bytes` bytes (1 or 2).
    ///
    /// This is NIfTI-1, which every reader knows, unless NIfTI-1 cannot hold a size or a number.
    pub(in crate::ct) fn into_labels(self, bytes: i16) -> Vec<u8> {
        const UINT8: i16 = 2;
        const UINT16: i16 = 512;
        let datatype = if bytes == 1 { UINT8 } else { UINT16 };
        // The slope is 1. A slope of 0 means that there is no scaling, but some readers multiply by it.
        let labels = Self { datatype, bitpix: 8 * bytes, scl_slope: 1.0, scl_inter: 0.0, ..self };
        let layout = if NIFTI_1.holds(&labels) { &NIFTI_1 } else { &NIFTI_2 };
        layout.write(&labels)
    }
}
