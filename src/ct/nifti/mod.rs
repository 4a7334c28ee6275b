//! NIfTI-1 and NIfTI-2, the format of neuroimaging and of most public CT data sets. This module reads and checks the
//! header, finds the position of the voxels, and reads values slice by slice.

mod fields;
mod header;
mod labels;
mod layout;
mod place;
mod qform;

use std::path::{Path, PathBuf};

pub(super) use self::fields::Fields;
use self::header::Header;
pub(super) use self::place::{check_sizes, disagree, spacing};
use super::bytes::Bytes;
use super::source::StoredScan;
use super::voxels::Voxels;
use crate::archive::{is_file, shown};
use crate::error::{Error, Problem, Result};

/// The endings of the file names that this module reads, in lower case.
const ENDINGS: [&str; 6] = [".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz"];

/// Returns whether `path` has the name of a NIfTI file: `.nii`, `.nii.gz`, or one of a pair `.hdr` and `.img`, in upper
/// or lower case.
pub(super) fn is_nifti(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Reads and checks the header of the scan at `path`. Allocates no memory for the values.
///
/// # Errors
/// If the file cannot be read, is not NIfTI, holds no scalar volume, or is shorter than its header says.
pub(super) fn open(path: &Path) -> Result<StoredScan> {
    checked(path).map_err(|problem| Error::input(path.display(), problem))
}

fn checked(path: &Path) -> Result<StoredScan, Problem> {
    let (head, image) = files(path)?;
    let mut bytes = Bytes::open(&head)?;
    let mut header = Header::read(&mut bytes)?;
    let voxels = match (&image, header.is_pair) {
        (None, false) => bytes,
        (Some(image), true) => Bytes::open(image)?,
        (None, true) => {
            return Err("its header says that the voxels are in another file: give the .hdr file of a .hdr/.img pair".into());
        }
        (Some(_), false) => {
            return Err(format!("{} is a whole NIfTI file, not the header of a pair: rename it .nii", shown(&head).display()).into());
        }
    };
    let mut warnings = std::mem::take(&mut header.warnings);
    let Header { shape, scalar, is_big_endian, slope, intercept, offset, .. } = header;
    let slices = Voxels { scalar, is_big_endian, slope, intercept, offset, ..Voxels::new(voxels, shape) }.checked(&mut warnings)?;
    let (affine, place) = place::affine(&mut header, &mut warnings);
    let about = vec![("format", header.format.to_owned()), ("affine_from", place.to_owned())];
    let nifti = Some(Box::new(header.raw));
    Ok(StoredScan { affine: Some(affine), about, nifti, warnings, ..StoredScan::of_slices(shape, Box::new(slices)) })
}

/// Returns the file with the header, and the file with the voxels if that is a separate one.
pub(super) fn files(path: &Path) -> Result<(PathBuf, Option<PathBuf>), Problem> {
    let ends_in = |path: &Path, ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    let bare = if ends_in(path, "gz") { path.with_extension("") } else { path.to_path_buf() };
    let other = |kind: &str| {
        let endings = [kind.to_owned(), format!("{kind}.gz"), kind.to_uppercase(), format!("{}.GZ", kind.to_uppercase())];
        let found = endings.iter().map(|ending| bare.with_extension(ending)).find(|file| is_file(file));
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
