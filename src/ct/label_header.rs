//! The NIfTI header of a label map.

use super::geometry::Geometry;
use super::nifti::Fields;

impl Geometry {
    /// Returns the header of a `.nii` label map. The labels are unsigned little-endian integers of `bytes` bytes (1 or
    /// 2).
    ///
    /// The header is NIfTI-1, also for a NIfTI-2 scan, because SimpleITK and others do not read NIfTI-2. It is NIfTI-2
    /// if a side is longer than 32767 voxels, or a number of a NIfTI-2 scan exceeds the range of an f32.
    ///
    /// Axes, sizes, units, qform and sform are bit-identical to those of a NIfTI-1 scan, with three exceptions. A count
    /// of 0 volumes becomes 1. An invalid sform is omitted. If the scan has a sheared sform and no qform, a qform
    /// without the shear is added. Those of a NIfTI-2 scan are rounded to f32 in a NIfTI-1 header.
    pub fn nifti_labels(&self, bytes: i16) -> Vec<u8> {
        let affine = self.affine();
        let mut header = self.nifti.as_deref().cloned().unwrap_or_else(|| Fields::of(self.shape(), affine));
        header.add_to_sheared(affine);
        header.into_labels(bytes)
    }
}
