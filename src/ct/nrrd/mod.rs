//! NRRD, the format of Teem and 3D Slicer (<https://teem.sourceforge.net/nrrd/format.html>): a text header, and voxels
//! in the same file or in another one.

mod header;
mod place;

use std::path::{Path, PathBuf};

use self::header::{Encoding, Header};
use super::bytes::{Bytes, Packing, begins_as_gzip};
use super::header_lines::{self, after_lines};
use super::source::StoredScan;
use super::voxels::Voxels;
use crate::archive::InputFile;
use crate::error::{Error, Problem, Result};

/// Returns whether `path` has the name of a NRRD file: `.nrrd` or `.nhdr`, in upper or lower case.
pub(super) fn is_nrrd(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["nrrd", "nhdr"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Returns the file of the voxels, if it is not the file of the header at `path`.
pub(super) fn data_file(path: &Path) -> Result<Option<PathBuf>, Problem> {
    Ok(Header::read(path)?.0.data_file(path)?)
}

/// Reads and checks the header of the scan at `path`. Allocates no memory for the values.
///
/// # Errors
/// If the file cannot be read, is not NRRD, holds no scalar volume, or is shorter than its header says.
pub(super) fn open(path: &Path) -> Result<StoredScan> {
    checked(path).map_err(|problem| Error::input(path.display(), problem))
}

fn checked(path: &Path) -> Result<StoredScan, Problem> {
    let (header, file, start) = Header::read(path)?;
    let mut warnings = Vec::new();
    let (shape, scalar) = (header.shape()?, header.scalar()?);
    let is_big_endian = header.is_big_endian(scalar)?;
    let voxel_bytes = scalar.bytes_of(shape);
    let affine = place::affine(&header, &mut warnings)?;
    let (file, start) = header_lines::data(header.data_file(path)?, (file, start))?;
    let (bytes, offset) = voxels(&header, file, start, voxel_bytes)?;
    let slices = Voxels { scalar, is_big_endian, offset, ..Voxels::new(bytes, shape) }.checked(&mut warnings)?;
    let about = vec![("format", "NRRD".to_owned())];
    Ok(StoredScan { affine, about, warnings, ..StoredScan::of_slices(shape, Box::new(slices)) })
}

/// Returns the stored bytes, and the offset of the first voxel in them. The file holds what its header calls data from
/// the offset `start` on.
fn voxels(header: &Header, mut file: InputFile, start: u64, voxel_bytes: u64) -> Result<(Bytes, u64), Problem> {
    let (lines, skip) = (header.line_skip()?, header.byte_skip()?);
    let start = after_lines(&mut file, start, lines)?;
    match (header.encoding()?, skip) {
        (Encoding::Raw, Some(skip)) => Ok((Bytes::new(file, start, Packing::Plain)?, skip)),
        (Encoding::Raw, None) => {
            let begin = header_lines::counted_from_end(&file, start, voxel_bytes)?;
            Ok((Bytes::new(file, begin, Packing::Plain)?, 0))
        }
        (Encoding::Gzip, None) => {
            Err("says byte skip -1 and encoding gzip, but only raw voxels can be counted from the end of a file".into())
        }
        // Lines are skipped before the data are inflated, and bytes after that.
        (Encoding::Gzip, Some(skip)) if begins_as_gzip(&mut file, start)? => Ok((Bytes::new(file, start, Packing::Gzip)?, skip)),
        (Encoding::Gzip, Some(_)) => Err("says encoding gzip, but its data do not begin as gzip: the file is damaged".into()),
    }
}
