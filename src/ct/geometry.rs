//! Where a scan's voxels lie, as a NIfTI-1 header says it. Fields and codes: the NIfTI-1 standard, `nifti1.h`.

use ::nifti::NiftiHeader;

use super::affine::Affine;
use super::nifti::{self, SCANNER};
use super::source::Stored;

/// `NIFTI_UNITS_MM`.
const MILLIMETRES: u8 = 2;
/// Where voxels begin in a file without extensions.
const FIRST_VOXEL: usize = 352;

/// How many voxels a scan has and where they lie: all that other voxels need to lie over them.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// [S, H, W]
    shape: [usize; 3],
    /// Slices, rows, columns.
    spacing: [f64; 3],
    voxel_ml: f64,
    /// Of which everything that says where voxels lie goes into other files as it is.
    header: NiftiHeader,
}

impl Geometry {
    pub(super) fn of(stored: &Stored) -> Result<Self, String> {
        let unknown = "does not say how far its voxels are apart, in mm: give the scan as NIfTI or DICOM";
        let affine = stored.affine.ok_or(unknown)?;
        let is_sform = stored.nifti.as_ref().is_some_and(|header| header.sform_code != 0);
        let sizes = stored.nifti.as_ref().map_or([1.0; 3], |header| [1, 2, 3].map(|i| header.pixdim[i]));
        if !is_sform && sizes.iter().any(|size| *size == 0.0 || !size.is_finite()) {
            return Err(format!(
                "its header gives voxels of {sizes:?} mm (pixdim): what they are resampled to would be wrong; mend its header"
            ));
        }
        if !affine.is_usable() {
            return Err(format!(
                "its affine makes no sense: {affine}, expected finite numbers and three independent directions; mend its header"
            ));
        }
        let mut header = stored.nifti.as_deref().cloned().unwrap_or_else(|| header_of(&affine, stored.shape));
        let lengths = affine.spacing();
        let spacing = stored.nifti.as_ref().map_or(lengths, |header| nifti::spacing(header, &affine));
        nifti::add_to_sheared(&mut header, &affine);
        // Of the affine's directions, at the distances that the scan is resampled from.
        let voxel_ml = (0..3).fold(affine.volume().abs() / 1000.0, |volume, axis| volume * spacing[axis] / lengths[axis]);
        let [column, row, slice] = spacing;
        Ok(Self { shape: stored.shape, spacing: [slice, row, column], voxel_ml, header })
    }

    /// [S, H, W]: slices, rows and columns.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The distance between slices, rows and columns, in mm: for a NIfTI file its `pixdim`, as nnU-Net's readers take
    /// it.
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// The volume of a voxel in millilitres, by the same distances.
    pub fn voxel_ml(&self) -> f64 {
        self.voxel_ml
    }

    /// What stands before the voxels of a `.nii` file of labels in as many bytes each (1 or 2, unsigned,
    /// little-endian): axes, sizes, units, qform and sform are the scan's to the bit, with three exceptions. A count of
    /// 0 volumes is 1. An sform that makes no sense is left out. A qform without shear is added where the scan has a
    /// sheared sform alone.
    pub fn nifti_labels(&self, bytes: i16) -> [u8; FIRST_VOXEL] {
        const UINT8: i16 = 2;
        const UINT16: i16 = 512;
        let h = &self.header;
        let mut out = Fields { bytes: [0; FIRST_VOXEL], at: 0 };
        out.put(&348_i32.to_le_bytes());
        out.skip(28 + 4 + 2);
        out.put(&[h.regular, h.dim_info]);
        h.dim.iter().for_each(|n| out.put(&n.to_le_bytes()));
        // No intent, as `NIFTI_INTENT_NONE`: labels have none that readers agree on.
        out.skip(3 * 4 + 2);
        for short in [if bytes == 1 { UINT8 } else { UINT16 }, 8 * bytes, 0] {
            out.put(&short.to_le_bytes());
        }
        h.pixdim.iter().for_each(|v| out.put(&v.to_le_bytes()));
        // A slope of 1: some readers take 0, which means none, at its word.
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
}

/// A header for what lies as `affine` says: in its sform and, without the shear of a tilted gantry, in its qform.
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

/// Bytes that are filled from the beginning.
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
