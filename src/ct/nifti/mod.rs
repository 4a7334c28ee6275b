//! NIfTI-1, the format of neuroimaging and of most public CT data sets. The crate [`nifti`] reads the header. This
//! module checks the file, finds the position of its voxels, and reads its values slice by slice.
//!
//! A plain file is read at the offset of each slice. A compressed file is inflated forwards while slices are requested
//! in order. The first request that goes back inflates the whole file, once, into an unnamed temporary file. In every
//! case, memory holds one slice.

mod file;
mod header;
mod members;
mod place;
mod qform;

use std::path::{Path, PathBuf};

use nifti::NiftiType;

use self::file::NiftiFile;
use self::header::Header;
pub(super) use self::place::{check_sizes, spacing};
pub(super) use self::qform::{SCANNER, add_to_sheared, set as set_qform};
use super::source::{Slices, StoredScan};
use crate::error::{Error, Problem, Result};

/// The endings of the file names that this module reads, in lower case.
const ENDINGS: [&str; 6] = [".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz"];

/// An open NIfTI-1 volume.
#[derive(Debug)]
pub(super) struct Nifti {
    header: Header,
    voxels: NiftiFile,
}

/// Returns whether `path` has the name of a NIfTI file: `.nii`, `.nii.gz`, or one of a pair `.hdr` and `.img`, in upper
/// or lower case.
pub(super) fn is_nifti(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

impl Nifti {
    /// Reads and checks the header. Allocates no memory for the values.
    ///
    /// # Errors
    /// If the file cannot be read, is not NIfTI-1, holds no scalar volume, or is shorter than its header says.
    pub fn open(path: &Path) -> Result<StoredScan> {
        Self::checked(path).map_err(|problem| Error::input(path.display(), problem))
    }

    fn checked(path: &Path) -> Result<StoredScan, Problem> {
        let (head, image) = files(path)?;
        let mut bytes = NiftiFile::open(&head)?;
        let mut header = Header::read(&mut bytes)?;
        let mut voxels = match (&image, header.is_pair) {
            (None, false) => bytes,
            (Some(image), true) => NiftiFile::open(image)?,
            (None, true) => {
                return Err("its header says that the voxels are in another file: give the .hdr file of a .hdr/.img pair".into());
            }
            (Some(_), false) => {
                return Err(format!("{} is a whole NIfTI file, not the header of a pair: rename it .nii", head.display()).into());
            }
        };
        let trailing = voxels.promise(header.offset, header.voxel_bytes())?;
        let mut warnings = std::mem::take(&mut header.warnings);
        if trailing > 0 {
            warnings.push(format!("{trailing} bytes follow the last voxel that its header describes; they are not read"));
        }
        let (affine, place) = place::affine(&mut header, &mut warnings);
        let about = vec![("format", "NIfTI-1".to_owned()), ("affine_from", place.to_owned())];
        let nifti = Some(Box::new(header.raw.clone()));
        Ok(StoredScan { shape: header.shape, affine: Some(affine), about, nifti, warnings, slices: Box::new(Self { header, voxels }) })
    }
}

impl Slices for Nifti {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let [_, height, width] = self.header.shape;
        let len = height * width * self.header.kind.size_of();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| format!("no memory for {len} bytes"))?;
        bytes.resize(len, 0);
        self.voxels.read_at(self.header.offset + index as u64 * len as u64, &mut bytes)?;
        Ok(decode(&self.header, &bytes))
    }
}

/// Returns the file with the header, and the file with the voxels if that is a separate one.
pub(super) fn files(path: &Path) -> Result<(PathBuf, Option<PathBuf>), Problem> {
    let ends_in = |path: &Path, ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    let bare = if ends_in(path, "gz") { path.with_extension("") } else { path.to_path_buf() };
    let other = |kind: &str| {
        let endings = [kind.to_owned(), format!("{kind}.gz"), kind.to_uppercase(), format!("{}.GZ", kind.to_uppercase())];
        let found = endings.iter().map(|ending| bare.with_extension(ending)).find(|file| file.is_file());
        found.ok_or_else(|| {
            let missing = bare.with_extension(kind);
            let missing = missing.file_name().unwrap_or_default().display();
            format!("one file of a .hdr/.img pair, of which {missing} is missing; both must be in one folder")
        })
    };
    if ends_in(&bare, "hdr") {
        Ok((path.into(), Some(other("img")?)))
    } else if ends_in(&bare, "img") {
        Ok((other("hdr")?, Some(path.into())))
    } else {
        Ok((path.into(), None))
    }
}

/// Converts stored voxels to HU: `value * slope + intercept` in f64, rounded to f32 once, as in nibabel's `get_fdata`.
fn decode(header: &Header, bytes: &[u8]) -> Vec<f32> {
    match header.kind {
        NiftiType::Uint8 => numbers(header, bytes, |b| f64::from(u8::from_le_bytes(b))),
        NiftiType::Int8 => numbers(header, bytes, |b| f64::from(i8::from_le_bytes(b))),
        NiftiType::Uint16 => numbers(header, bytes, |b| f64::from(u16::from_le_bytes(b))),
        NiftiType::Int16 => numbers(header, bytes, |b| f64::from(i16::from_le_bytes(b))),
        NiftiType::Uint32 => numbers(header, bytes, |b| f64::from(u32::from_le_bytes(b))),
        NiftiType::Int32 => numbers(header, bytes, |b| f64::from(i32::from_le_bytes(b))),
        NiftiType::Uint64 => numbers(header, bytes, |b| u64::from_le_bytes(b) as f64),
        NiftiType::Int64 => numbers(header, bytes, |b| i64::from_le_bytes(b) as f64),
        NiftiType::Float32 => numbers(header, bytes, |b| f64::from(f32::from_le_bytes(b))),
        NiftiType::Float64 => numbers(header, bytes, f64::from_le_bytes),
        kind => unreachable!("{kind:?} was refused when the file was opened"),
    }
}

fn numbers<const N: usize>(header: &Header, bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f32> {
    let Header { is_big_endian, slope, intercept, .. } = *header;
    let value = |stored: &[u8]| {
        let mut stored: [u8; N] = stored.try_into().expect("whole values");
        if is_big_endian {
            stored.reverse();
        }
        let mut value = number(stored) * slope;
        // Adding an intercept of 0 would turn -0 into 0.
        if intercept != 0.0 {
            value += intercept;
        }
        value as f32
    };
    bytes.chunks_exact(N).map(value).collect()
}
