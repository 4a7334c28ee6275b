//! The NIfTI-1 header of a label map. The standard's `nifti1.h` defines the fields and codes.

use ::nifti::NiftiHeader;

use super::affine::Affine;
use super::geometry::Geometry;
use super::nifti::{self, SCANNER};

/// `NIFTI_UNITS_MM`.
const MILLIMETRES: u8 = 2;
/// The offset of the voxels in a file without extensions, in bytes.
const FIRST_VOXEL: usize = 352;

impl Geometry {
    /// Returns the header of a `.nii` label map. The labels are unsigned little-endian integers of `bytes` bytes (1 or
    /// 2).
    ///
    /// Axes, sizes, units, qform and sform are bit-identical to the scan's, with three exceptions. A count of 0 volumes
    /// becomes 1. An invalid sform is omitted. If the scan has a sheared sform and no qform, a qform without the shear
    /// is added.
    pub fn nifti_labels(&self, bytes: i16) -> [u8; FIRST_VOXEL] {
        const UINT8: i16 = 2;
        const UINT16: i16 = 512;
        let header = self.label_header();
        let h = &header;
        let mut out = Fields { bytes: [0; FIRST_VOXEL], at: 0 };
        out.put(&348_i32.to_le_bytes());
        out.skip(28 + 4 + 2);
        out.put(&[h.regular, h.dim_info]);
        h.dim.iter().for_each(|n| out.put(&n.to_le_bytes()));
        // `NIFTI_INTENT_NONE`, because readers agree on no intent for labels.
        out.skip(3 * 4 + 2);
        for short in [if bytes == 1 { UINT8 } else { UINT16 }, 8 * bytes, 0] {
            out.put(&short.to_le_bytes());
        }
        h.pixdim.iter().for_each(|v| out.put(&v.to_le_bytes()));
        // The slope is 1. A slope of 0 means that there is no scaling, but some readers multiply by it.
        for v in [FIRST_VOXEL as f32, 1.0, 0.0] {
            out.put(&v.to_le_bytes());
        }
        out.skip(2 + 1);
        out.put(&[h.xyzt_units]);
        out.skip(4 * 4 + 2 * 4);
        let mut about = [0; 80];
        let text = concat!("meddino ", env!("CARGO_PKG_VERSION"));
        about[..text.len()].copy_from_slice(text.as_bytes());
        out.put(&about);
        out.skip(24);
        [h.qform_code, h.sform_code].iter().for_each(|code| out.put(&code.to_le_bytes()));
        let qform = [h.quatern_b, h.quatern_c, h.quatern_d, h.quatern_x, h.quatern_y, h.quatern_z];
        qform.iter().chain(&h.srow_x).chain(&h.srow_y).chain(&h.srow_z).for_each(|v| out.put(&v.to_le_bytes()));
        out.skip(16);
        out.put(b"n+1\0");
        out.bytes
    }

    /// Returns the NIfTI header from which label maps take axes, sizes, units, qform and sform.
    fn label_header(&self) -> NiftiHeader {
        let affine = self.affine();
        let mut header = self.nifti.as_deref().cloned().unwrap_or_else(|| header_of(affine, self.shape()));
        nifti::add_to_sheared(&mut header, affine);
        header
    }
}

/// Creates a header for the voxel grid `affine`. The sform holds the affine, and the qform the affine without the shear
/// of a tilted gantry.
fn header_of(affine: &Affine, [slices, height, width]: [usize; 3]) -> NiftiHeader {
    let [x, y, z] = affine.spacing().map(|v| v as f32);
    let rows = affine.rows.map(|row| row.map(|v| v as f32));
    let mut header = NiftiHeader {
        dim: [3, width as u16, height as u16, slices as u16, 1, 1, 1, 1],
        pixdim: [1.0, x, y, z, 0.0, 0.0, 0.0, 0.0],
        xyzt_units: MILLIMETRES,
        regular: b'r',
        qform_code: SCANNER,
        sform_code: SCANNER,
        srow_x: rows[0],
        srow_y: rows[1],
        srow_z: rows[2],
        ..NiftiHeader::default()
    };
    nifti::set_qform(&mut header, affine);
    header
}

/// A buffer that is filled field by field, from its beginning.
struct Fields {
    bytes: [u8; FIRST_VOXEL],
    at: usize,
}

impl Fields {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }
}
