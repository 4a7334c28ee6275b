//! MetaImage, the format of ITK and of many challenges (<https://itk.org/Wiki/ITK/MetaIO/Documentation>): a text header
//! `.mhd` and voxels in another file, or both in one file `.mha`.

mod header;

use std::path::{Path, PathBuf};

use self::header::Header;
use super::bytes::{Bytes, Packing, begins_as_gzip};
use super::header_lines;
use super::source::StoredScan;
use super::voxels::Voxels;
use crate::archive::InputFile;
use crate::error::{Error, Problem, Result};

/// Returns whether `path` has the name of a MetaImage file: `.mha` or `.mhd`, in upper or lower case.
pub(super) fn is_metaimage(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["mha", "mhd"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Returns the file of the voxels, if it is not the file of the header at `path`.
pub(super) fn data_file(path: &Path) -> Result<Option<PathBuf>, Problem> {
    Ok(Header::read(path)?.0.data_file(path)?)
}

/// Reads and checks the header of the scan at `path`. Allocates no memory for the values.
///
/// # Errors
/// If the file cannot be read, is not MetaImage, holds no scalar volume, or is shorter than its header says.
pub(super) fn open(path: &Path) -> Result<StoredScan> {
    checked(path).map_err(|problem| Error::input(path.display(), problem))
}

fn checked(path: &Path) -> Result<StoredScan, Problem> {
    let (header, file, start) = Header::read(path)?;
    let mut warnings = Vec::new();
    let (shape, scalar) = (header.shape()?, header.scalar()?);
    let is_big_endian = header.is_big_endian(scalar, &mut warnings)?;
    header.warn_of_scale(&mut warnings);
    let grid = header.grid(&mut warnings)?;
    let (file, start) = header_lines::data(header.data_file(path)?, (file, start))?;
    let voxel_bytes = scalar.bytes_of(shape);
    let bytes = voxels(&header, file, start, voxel_bytes)?;
    let slices = Voxels { scalar, is_big_endian, ..Voxels::new(bytes, shape) }.checked(&mut warnings)?;
    let about = vec![("format", "MetaImage".to_owned())];
    let affine = grid.as_ref().map(super::grid::Grid::affine);
    Ok(StoredScan { affine, grid: grid.map(Box::new), about, warnings, ..StoredScan::of_slices(shape, Box::new(slices)) })
}

/// Returns the stored bytes from the first voxel on. The voxels of `file` begin at the offset `start`, unless the header
/// gives another one.
fn voxels(header: &Header, mut file: InputFile, start: u64, voxel_bytes: u64) -> Result<Bytes, Problem> {
    let length = file.length()?;
    let compressed = header.compressed_bytes()?;
    let start = match (header.header_size()?, compressed) {
        (Some(0), _) => start,
        (Some(size), _) => size,
        (None, None) => header_lines::counted_from_end(&file, start, voxel_bytes)?,
        (None, Some(_)) => {
            return Err("says HeaderSize -1 and CompressedData True, but only plain voxels can be counted from the end of a file".into());
        }
    };
    let Some(compressed) = compressed else { return Bytes::new(file, start, Packing::Plain) };
    if start.checked_add(compressed).is_none_or(|end| end > length) {
        return Err(format!(
            "its header promises {compressed} compressed bytes at byte {start}, but it ends at byte {length}: the file is damaged"
        )
        .into());
    }
    let packing = if begins_as_gzip(&mut file, start)? { Packing::Gzip } else { Packing::Zlib };
    Bytes::new(file, start, packing)
}
