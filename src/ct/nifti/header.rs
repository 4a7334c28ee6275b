//! Reads and checks what a NIfTI-1 header says about the values. Fields and codes are those of the NIfTI-1 standard,
//! `nifti1.h`.

use nifti::{Endianness, NiftiHeader, NiftiType};

use crate::ct::bytes::Bytes;
use crate::ct::scalar::Scalar;
use crate::ct::source::MAX_SLICE_SIDE;
use crate::error::Problem;

/// The header's length in bytes: `sizeof_hdr`.
const LENGTH: usize = 348;
/// `sizeof_hdr` of NIfTI-2.
const LENGTH_2: i32 = 540;
/// The offset of the voxels in a single file without extensions.
const FIRST_VOXEL: u64 = 352;

/// A header that passed the checks.
#[derive(Debug)]
pub(super) struct Header {
    /// The fields as stored, except for those that were corrected with a warning.
    pub raw: NiftiHeader,
    /// [S, H, W]: the file's axes k, j, i. No side is 0.
    pub shape: [usize; 3],
    /// How a voxel is stored.
    pub scalar: Scalar,
    pub is_big_endian: bool,
    /// A value is `stored * slope + intercept`. Slope is 1 and intercept 0 if the file gives none.
    pub slope: f64,
    pub intercept: f64,
    /// The offset in bytes of the first voxel, in the file that holds the voxels.
    pub offset: u64,
    /// Whether the voxels are in a separate file.
    pub is_pair: bool,
    /// What is unusual in the header but could be interpreted.
    pub warnings: Vec<String>,
}

impl Header {
    /// # Errors
    /// If the file is not NIfTI-1, or does not hold a single volume of real numbers.
    pub fn read(file: &mut Bytes) -> Result<Self, Problem> {
        let bytes = file.first(LENGTH)?;
        let mut raw = parse(&bytes)?;
        let mut warnings = Vec::new();
        count_of_none(&mut raw, &mut warnings);
        let is_pair = &raw.magic == nifti::header::MAGIC_CODE_NI1;
        let (slope, intercept) = scaling(&raw)?;
        Ok(Self {
            shape: shape(&raw)?,
            scalar: scalar(&raw)?,
            is_big_endian: raw.endianness == Endianness::Big,
            slope,
            intercept,
            offset: offset(&raw, is_pair, &mut warnings)?,
            is_pair,
            raw,
            warnings,
        })
    }
}

fn parse(bytes: &[u8]) -> Result<NiftiHeader, String> {
    let not_nifti = |why: &str| format!("not a NIfTI-1 file: {why}");
    let Some(&size) = bytes.first_chunk() else { return Err(not_nifti("it is empty or ends inside its header")) };
    match [i32::from_le_bytes(size), i32::from_be_bytes(size)] {
        sizes if sizes.contains(&(LENGTH as i32)) => {}
        sizes if sizes.contains(&LENGTH_2) => {
            return Err("NIfTI-2, which is not read here; save it as NIfTI-1, for example with nibabel: \
                        nib.save(nib.Nifti1Image.from_image(nib.load(FILE)), \"scan.nii.gz\")"
                .into());
        }
        _ => return Err(not_nifti("it begins neither as one nor as gzip")),
    }
    if bytes.len() < LENGTH {
        return Err(not_nifti("it ends inside its header"));
    }
    let header = NiftiHeader::from_reader(bytes)
        .map_err(|_| not_nifti("its magic is neither n+1 nor ni1 (Analyze 7.5 does not state an orientation)"))?;
    // The `nifti` crate derives the byte order from `dim[0]`, so the stated length must agree with that order.
    if header.sizeof_hdr != LENGTH as i32 {
        return Err(format!("broken header: dim[0] is no number of axes from 1 to 7 in the byte order of its length, {LENGTH}"));
    }
    Ok(header)
}

/// Replaces a length of 0 beyond the third axis with 1, as SimpleITK does, because some writers count the axes but
/// leave their lengths empty.
fn count_of_none(raw: &mut NiftiHeader, warnings: &mut Vec<String>) {
    let axes = usize::from(raw.dim[0]).min(7);
    for i in (4..=axes).filter(|&i| raw.dim[i] == 0).collect::<Vec<_>>() {
        warnings.push(format!("its header counts no volume (dim[{i}] is 0, of {axes} axes); one was taken"));
        raw.dim[i] = 1;
    }
}

/// Returns [S, H, W] from `dim`. There must be one volume: all further axes have length 1.
fn shape(raw: &NiftiHeader) -> Result<[usize; 3], String> {
    // The standard defines the dimensions as signed.
    let dim = raw.dim.map(|n| n as i16);
    let axes = match dim[0] {
        n @ 1..=7 => &dim[1..=n as usize],
        n => return Err(format!("broken header: {n} axes, expected 1 to 7")),
    };
    if axes.iter().any(|&n| n < 1) {
        return Err(format!("broken header: {axes:?} voxels along its axes, expected at least 1 each"));
    }
    if axes.len() < 2 {
        return Err(format!("expected a volume or a slice, found a line of {} values", axes[0]));
    }
    let volumes: u128 = axes[2..].iter().skip(1).map(|&n| n as u128).product();
    if volumes > 1 {
        return Err(format!(
            "holds {volumes} volumes: {axes:?}; expected one. Split it first, for example with nibabel: nib.four_to_three"
        ));
    }
    let [width, height, slices] = [0, 1, 2].map(|i| axes.get(i).map_or(1, |&n| n as usize));
    if width > MAX_SLICE_SIDE || height > MAX_SLICE_SIDE {
        return Err(format!("slices of {height} x {width} are beyond {MAX_SLICE_SIDE} pixels a side"));
    }
    Ok([slices, height, width])
}

fn scalar(raw: &NiftiHeader) -> Result<Scalar, String> {
    use NiftiType::{Complex64, Complex128, Complex256, Float128, Rgb24, Rgba32};
    Ok(match raw.data_type() {
        Ok(NiftiType::Uint8) => Scalar::U8,
        Ok(NiftiType::Int8) => Scalar::I8,
        Ok(NiftiType::Uint16) => Scalar::U16,
        Ok(NiftiType::Int16) => Scalar::I16,
        Ok(NiftiType::Uint32) => Scalar::U32,
        Ok(NiftiType::Int32) => Scalar::I32,
        Ok(NiftiType::Uint64) => Scalar::U64,
        Ok(NiftiType::Int64) => Scalar::I64,
        Ok(NiftiType::Float32) => Scalar::F32,
        Ok(NiftiType::Float64) => Scalar::F64,
        Ok(Rgb24 | Rgba32) => return Err("its voxels are colours (RGB), and no HU: give the scan itself".into()),
        Ok(Complex64 | Complex128 | Complex256) => return Err("its voxels are complex numbers, and no HU".into()),
        Ok(Float128) => return Err("its voxels are floats of 128 bits; save it as float32 first".into()),
        Err(_) if raw.datatype == 1 => return Err("its voxels are single bits: a mask, and no HU".into()),
        Err(_) => return Err(format!("broken header: unknown datatype {}", raw.datatype)),
    })
}

/// Returns slope and intercept. In the standard and in nibabel, a slope of 0 means that there is none. nibabel also
/// ignores a slope that is not finite.
fn scaling(raw: &NiftiHeader) -> Result<(f64, f64), String> {
    let (slope, intercept) = (f64::from(raw.scl_slope), f64::from(raw.scl_inter));
    if slope == 0.0 || !slope.is_finite() {
        return Ok((1.0, 0.0));
    }
    if !intercept.is_finite() {
        return Err(format!("broken header: its values are scaled by scl_slope {slope}, but scl_inter is {intercept}"));
    }
    Ok((slope, intercept))
}

/// Returns the offset of the voxels, which follow the header and any extensions.
fn offset(raw: &NiftiHeader, is_pair: bool, warnings: &mut Vec<String>) -> Result<u64, String> {
    let offset = f64::from(raw.vox_offset);
    if !(0.0..1e15).contains(&offset) || offset.fract() != 0.0 {
        return Err(format!("broken header: voxels are said to begin at byte {offset} (vox_offset)"));
    }
    match offset as u64 {
        0 if !is_pair => {
            warnings.push(format!("its header does not say where voxels begin (vox_offset 0); byte {FIRST_VOXEL} was taken"));
            Ok(FIRST_VOXEL)
        }
        n @ 1..FIRST_VOXEL if !is_pair => {
            Err(format!("broken header: voxels are said to begin at byte {n} (vox_offset), inside the header"))
        }
        n => Ok(n),
    }
}
