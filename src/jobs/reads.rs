//! The files that a job reads, which outputs must not replace, and the folder of outputs.

use std::fs;
use std::path::{Path, PathBuf};

use super::text::name_text;
use crate::checkpoint;
use crate::ct::{files_of, is_dicom};
use crate::error::{Error, Result};
use crate::hub::{Hub, RELEASED};
use crate::output::{Targets, is_manifest_name, is_ours};

/// Returns targets that protect the files of `scan` and `weights` from being replaced. `weights` is a file or
/// `seeded:N`; none is the released checkpoint. With `overwrite`, other files that this program did not write may be
/// replaced.
///
/// # Errors
/// If the scan's folder cannot be read.
pub fn targets(overwrite: bool, scan: Option<&Path>, weights: Option<&Path>) -> Result<Targets> {
    let mut targets = Targets::new(overwrite);
    if let Some(scan) = scan {
        targets.reads("the input", read_of(scan)?);
    }
    match weights {
        Some(path) => targets.reads("the checkpoint", checkpoint::files_of(path)),
        None => targets.reads("the checkpoint", Hub::from_env().ok().and_then(|hub| hub.cached(&RELEASED))),
    }
    Ok(targets)
}

/// Returns the files that the scan `input` is read from, without outputs in the scan's folder, so that a job can be
/// repeated.
///
/// # Errors
/// If the scan's folder cannot be read.
pub fn read_of(input: &Path) -> Result<Vec<PathBuf>> {
    let mut files = files_of(input)?;
    files.retain(|file| file == input || !is_own(file));
    Ok(files)
}

/// Returns whether the file at `path` is an output, a manifest or an unfinished output of this program.
pub fn is_own(path: &Path) -> bool {
    let name = path.file_name().map(name_text).unwrap_or_default();
    let is_partial = name.starts_with('.') && name.ends_with(".partial") && !is_dicom(path).unwrap_or(true);
    is_partial || is_manifest_name(&name) || is_output(path)
}

/// Returns whether this program wrote the file at `path`. An empty file counts as a scan, so that its reader reports
/// the problem.
pub(super) fn is_output(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.len() > 0) && is_ours(path)
}

/// Creates the output folder `folder` if it does not exist.
///
/// # Errors
/// If the folder cannot be created, or a file or a dangling link has its name.
pub fn make_folder(folder: &Path) -> Result<()> {
    let fail = |problem: String| Error::output(folder.display(), problem);
    match fs::create_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(_) if folder.exists() => Err(fail("is a file, but outputs need a folder; give another name".into())),
        Err(_) if folder.is_symlink() => {
            Err(fail("is a link to a folder that does not exist; create that folder, or remove the link".into()))
        }
        Err(e) => Err(fail(format!("the folder cannot be created: {e}"))),
    }
}
