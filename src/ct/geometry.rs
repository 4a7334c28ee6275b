//! Where a scan's voxels lie, as a NIfTI-1 header says it. Fields and codes: the NIfTI-1 standard, `nifti1.h`.

use nifti::NiftiHeader;

use super::affine::Affine;
use super::source::Stored;

/// `NIFTI_XFORM_SCANNER_ANAT`: the scanner's own coordinates.
const SCANNER: i16 = 1;
/// `NIFTI_UNITS_MM`.
const MILLIMETRES: u8 = 2;
/// Where voxels begin in a file without extensions.
const FIRST_VOXEL: usize = 352;

/// How many voxels a scan has and where they lie: all that other voxels need to lie over them.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// [S, H, W]
    shape: [usize; 3],
    affine: Affine,
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
        let header = stored.nifti.as_deref().cloned().unwrap_or_else(|| header_of(&affine, stored.shape));
        Ok(Self { shape: stored.shape, affine, header })
    }

    /// [S, H, W]: slices, rows and columns.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The distance between slices, rows and columns, in mm.
    pub fn spacing(&self) -> [f64; 3] {
        let [column, row, slice] = self.affine.spacing();
        [slice, row, column]
    }

    /// The volume of a voxel in millilitres.
    pub fn voxel_ml(&self) -> f64 {
        let [c, r, s] = [0, 1, 2].map(|axis| self.affine.column(axis));
        let volume = c[0] * (r[1] * s[2] - r[2] * s[1]) - c[1] * (r[0] * s[2] - r[2] * s[0]) + c[2] * (r[0] * s[1] - r[1] * s[0]);
        volume.abs() / 1000.0
    }

    /// What stands before the voxels of a `.nii` file of labels in as many bytes each (1 or 2, unsigned, little-endian): axes, sizes, units, qform and sform
    /// are the scan's to the bit.
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

/// A header for what lies as `affine` says, in its sform and, where that has no shear, in its qform.
fn header_of(affine: &Affine, [slices, height, width]: [usize; 3]) -> NiftiHeader {
    let [x, y, z] = affine.spacing().map(|v| v as f32);
    let rows = affine.rows.map(|row| row.map(|v| v as f32));
    let mut header = NiftiHeader {
        dim: [3, width as u16, height as u16, slices as u16, 1, 1, 1, 1],
        pixdim: [1.0, x, y, z, 0.0, 0.0, 0.0, 0.0],
        xyzt_units: MILLIMETRES,
        regular: b'r',
        // None, unless the axes allow it.
        qform_code: 0,
        sform_code: SCANNER,
        srow_x: rows[0],
        srow_y: rows[1],
        srow_z: rows[2],
        ..NiftiHeader::default()
    };
    if let Some((qfac, [b, c, d])) = quaternion(affine) {
        header.pixdim[0] = qfac;
        header.qform_code = SCANNER;
        [header.quatern_b, header.quatern_c, header.quatern_d] = [b, c, d].map(|v| v as f32);
        [header.quatern_x, header.quatern_y, header.quatern_z] = rows.map(|row| row[3]);
    }
    header
}

/// The handedness (-1 if the third axis must be reversed) and the quaternion's last three numbers of an affine's rotation; none if its axes are not at right
/// angles, as of a tilted gantry, which a qform cannot say.
fn quaternion(affine: &Affine) -> Option<(f32, [f64; 3])> {
    const SHEAR: f64 = 1e-4;
    let spacing = affine.spacing();
    let mut axes: [[f64; 3]; 3] = [0, 1, 2].map(|axis| affine.column(axis).map(|v| v / spacing[axis]));
    let dot = |a: [f64; 3], b: [f64; 3]| (0..3).map(|i| a[i] * b[i]).sum::<f64>();
    if [(0, 1), (1, 2), (2, 0)].iter().any(|&(i, j)| dot(axes[i], axes[j]).abs() > SHEAR) {
        return None;
    }
    let cross = |a: [f64; 3], b: [f64; 3]| [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let qfac = dot(cross(axes[0], axes[1]), axes[2]).signum();
    axes[2] = axes[2].map(|v| v * qfac);
    // r[i][j]: component i of axis j.
    let r: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| axes[j][i]));
    let [xx, yy, zz] = [r[0][0], r[1][1], r[2][2]];
    // The square of twice each of a, b, c, d: what is largest divides best.
    let squares = [1.0 + xx + yy + zz, 1.0 + xx - yy - zz, 1.0 - xx + yy - zz, 1.0 - xx - yy + zz];
    let largest = (0..4).max_by(|&i, &j| squares[i].total_cmp(&squares[j])).expect("four");
    let twice = squares[largest].max(0.0).sqrt();
    let sum = |i: usize, j: usize| (r[i][j] + r[j][i]) / (2.0 * twice);
    let difference = |i: usize, j: usize| (r[i][j] - r[j][i]) / (2.0 * twice);
    let [a, b, c, d] = match largest {
        0 => [0.5 * twice, difference(2, 1), difference(0, 2), difference(1, 0)],
        1 => [difference(2, 1), 0.5 * twice, sum(0, 1), sum(0, 2)],
        2 => [difference(0, 2), sum(0, 1), 0.5 * twice, sum(1, 2)],
        _ => [difference(1, 0), sum(0, 2), sum(1, 2), 0.5 * twice],
    };
    // Readers take a to be positive.
    let sign = if a < 0.0 { -1.0 } else { 1.0 };
    Some((qfac as f32, [b, c, d].map(|v| sign * v)))
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
