//! Reads and checks what a NIfTI header says about the values. Fields and codes are those of the standards, `nifti1.h`
//! and `nifti2.h`.

use super::fields::Fields;
use super::layout::{Layout, NIFTI_1, NIFTI_2};
use crate::ct::bytes::Bytes;
use crate::ct::scalar::Scalar;
use crate::ct::source;
use crate::error::Problem;

/// A header that passed the checks.
#[derive(Debug)]
pub(super) struct Header {
    /// The name of the format.
    pub format: &'static str,
    /// The fields as stored, except for those that were corrected with a warning.
    pub raw: Fields,
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
    /// If the file is not NIfTI, or does not hold a single volume of real numbers.
    pub fn read(file: &mut Bytes) -> Result<Self, Problem> {
        let (mut raw, layout, is_big_endian, is_pair) = parse(file)?;
        let mut warnings = Vec::new();
        count_of_none(&mut raw, &mut warnings);
        let (slope, intercept) = scaling(&raw)?;
        Ok(Self {
            shape: shape(&raw)?,
            scalar: scalar(&raw)?,
            is_big_endian,
            slope,
            intercept,
            offset: offset(&raw, layout.first_voxel() as u64, is_pair, &mut warnings)?,
            format: layout.name,
            is_pair,
            raw,
            warnings,
        })
    }
}

/// Returns the fields and their layout, whether they are big-endian, and whether the voxels are in another file.
fn parse(file: &mut Bytes) -> Result<(Fields, &'static Layout, bool, bool), Problem> {
    let not_nifti = |why: &str| format!("not a NIfTI file: {why}");
    let mut bytes = file.next(NIFTI_1.length)?;
    let Some(&size) = bytes.first_chunk() else { return Err(not_nifti("it is empty or ends inside its header").into()) };
    let sizes = [i32::from_le_bytes(size), i32::from_be_bytes(size)];
    let layout = [&NIFTI_1, &NIFTI_2].into_iter().find(|layout| sizes.contains(&(layout.length as i32)));
    let layout = layout.ok_or_else(|| not_nifti("it begins neither as one nor as gzip"))?;
    bytes.extend(file.next(layout.length - NIFTI_1.length)?);
    if bytes.len() < layout.length {
        return Err(not_nifti("it ends inside its header").into());
    }
    let magic = layout.magic(&bytes);
    if magic != layout.single && magic != layout.pair {
        return Err(not_nifti(&layout.not_its(magic)).into());
    }
    let is_big_endian = sizes[0] != layout.length as i32;
    Ok((layout.read(&bytes, is_big_endian), layout, is_big_endian, magic == layout.pair))
}

/// Replaces a length of 0 beyond the third axis with 1, as SimpleITK does, because some writers count the axes but
/// leave their lengths empty.
fn count_of_none(raw: &mut Fields, warnings: &mut Vec<String>) {
    let axes = raw.dim[0].clamp(0, 7) as usize;
    for i in (4..=axes).filter(|&i| raw.dim[i] == 0).collect::<Vec<_>>() {
        warnings.push(format!("its header counts no volume (dim[{i}] is 0, of {axes} axes); one was taken"));
        raw.dim[i] = 1;
    }
}

/// Returns [S, H, W] from `dim`. There must be one volume: all further axes have length 1.
fn shape(raw: &Fields) -> Result<[usize; 3], String> {
    let axes = match raw.dim[0] {
        n @ 1..=7 => &raw.dim[1..=n as usize],
        n => return Err(format!("broken header: {n} axes, expected 1 to 7 (dim[0], in the byte order of the header's length)")),
    };
    if axes.iter().any(|&n| n < 1) {
        return Err(format!("broken header: {axes:?} voxels along its axes, expected at least 1 each"));
    }
    if axes.len() < 2 {
        return Err(format!("expected a volume or a slice, found a line of {} values", axes[0]));
    }
    let volumes = axes[2..].iter().skip(1).fold(1_u64, |volumes, &n| volumes.saturating_mul(n as u64));
    if volumes > 1 {
        return Err(format!(
            "holds {volumes} volumes: {axes:?}; expected one. Split it first, for example with nibabel: nib.four_to_three"
        ));
    }
    source::shape([2, 1, 0].map(|i| axes.get(i).map_or(1, |&n| n as u64)))
}

fn scalar(raw: &Fields) -> Result<Scalar, String> {
    Ok(match raw.datatype {
        2 => Scalar::U8,
        4 => Scalar::I16,
        8 => Scalar::I32,
        16 => Scalar::F32,
        64 => Scalar::F64,
        256 => Scalar::I8,
        512 => Scalar::U16,
        768 => Scalar::U32,
        1024 => Scalar::I64,
        1280 => Scalar::U64,
        1 => return Err("its voxels are single bits: a mask, and no HU".into()),
        128 | 2304 => return Err("its voxels are colours (RGB), and no HU: give the scan itself".into()),
        32 | 1792 | 2048 => return Err("its voxels are complex numbers, and no HU".into()),
        1536 => return Err("its voxels are floats of 128 bits; save it as float32 first".into()),
        unknown => return Err(format!("broken header: unknown datatype {unknown}")),
    })
}

/// Returns slope and intercept. In the standard and in nibabel, a slope of 0 means that there is none. nibabel also
/// ignores a slope that is not finite.
fn scaling(raw: &Fields) -> Result<(f64, f64), String> {
    let (slope, intercept) = (raw.scl_slope, raw.scl_inter);
    if slope == 0.0 || !slope.is_finite() {
        return Ok((1.0, 0.0));
    }
    if !intercept.is_finite() {
        return Err(format!("broken header: its values are scaled by scl_slope {slope}, but scl_inter is {intercept}"));
    }
    Ok((slope, intercept))
}

/// Returns the offset of the voxels, which follow the header and any extensions. In a single file they begin at byte
/// `first` or later.
fn offset(raw: &Fields, first: u64, is_pair: bool, warnings: &mut Vec<String>) -> Result<u64, String> {
    let offset = raw.vox_offset;
    if !(0.0..1e15).contains(&offset) || offset.fract() != 0.0 {
        return Err(format!("broken header: voxels are said to begin at byte {offset} (vox_offset)"));
    }
    match offset as u64 {
        0 if !is_pair => {
            warnings.push(format!("its header does not say where voxels begin (vox_offset 0); byte {first} was taken"));
            Ok(first)
        }
        n if n < first && !is_pair => Err(format!("broken header: voxels are said to begin at byte {n} (vox_offset), inside the header")),
        n => Ok(n),
    }
}
