//! Checks what a PyTorch file claims to hold against the file's length, before memory is taken for it.

use std::io::{Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::Problem;

/// The most bytes of pickle that are parsed. The pickle of `checkpoint_final.pth` with its training log takes a few MB
/// at most. A hostile pickle takes about eighty times its size once parsed.
const MAX_PICKLE: u64 = 16 << 20;

/// How many bytes all tensors together may take beyond four times the file's length. This leaves room for small tensors
/// that share or repeat storage.
const SLACK: u64 = 64 << 20;

/// Opens a zip archive, and checks the sizes that its entries claim.
///
/// # Errors
/// If it is no whole archive, or an entry claims more than a file of this length may hold.
pub(super) fn check_zip<R: Read + Seek>(mut reader: R) -> Result<ZipArchive<R>, Problem> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut archive = ZipArchive::new(reader).map_err(damaged)?;
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?;
        let limit = if name.ends_with(".pkl") { MAX_PICKLE.min(length) } else { most(length) };
        if entry.size() > limit || entry.compressed_size() > length {
            return Err(format!(
                "its entry {name} claims {} bytes, in a file of {length}; it is damaged or not to be trusted",
                entry.size()
            )
            .into());
        }
    }
    Ok(archive)
}

/// Checks how many bytes the tensors of a file of `length` bytes claim together.
///
/// # Errors
/// If it is more than they may be.
pub(super) fn check_tensors(claimed: u64, length: u64) -> Result<(), Problem> {
    if claimed > most(length) {
        return Err(format!(
            "its tensors claim {claimed} bytes, in a file of {length}; if it is to be trusted, save it with contiguous tensors"
        )
        .into());
    }
    Ok(())
}

/// Says that a zip archive cannot be read.
pub(super) fn damaged(e: ZipError) -> Problem {
    Problem::caused_by(format!("its zip archive is damaged or cut short ({e}); download it again"), e)
}

/// The most bytes that a file of `length` may expand to.
fn most(length: u64) -> u64 {
    length.saturating_mul(4).saturating_add(SLACK)
}
