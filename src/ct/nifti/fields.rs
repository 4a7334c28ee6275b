//! The fields of a NIfTI header that this program reads or repeats, in the same types for either version.

/// `NIFTI_XFORM_SCANNER_ANAT`, the code of a form in the scanner's own coordinates.
pub(super) const SCANNER: i32 = 1;

/// The fields under their names in the standard, as stored.
#[derive(Clone, Debug)]
pub(in crate::ct) struct Fields {
    /// Whether distances are stored as f64 (NIfTI-2), and not as f32.
    pub(in crate::ct) is_f64: bool,
    pub(super) dim_info: u8,
    /// The number of axes, then their lengths.
    pub(super) dim: [i64; 8],
    pub(super) datatype: i16,
    pub(super) bitpix: i16,
    /// qfac, then the distances between voxels.
    pub(super) pixdim: [f64; 8],
    pub(super) vox_offset: f64,
    pub(super) scl_slope: f64,
    pub(super) scl_inter: f64,
    pub(super) xyzt_units: i32,
    pub(super) qform_code: i32,
    pub(super) sform_code: i32,
    /// The quaternion's b, c and d.
    pub(super) quatern: [f64; 3],
    pub(super) qoffset: [f64; 3],
    pub(super) srow: [[f64; 4]; 3],
}
