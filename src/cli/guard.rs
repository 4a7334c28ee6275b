//! What a command reads, so that nothing it writes takes the place of it, and the folder that its outputs go into.

use std::fs;
use std::path::{Path, PathBuf};

use meddino::checkpoint;
use meddino::ct::files_of;
use meddino::hub::{Hub, RELEASED};
use meddino::output::Targets;
use meddino::{Error, Result};

use super::search::is_own;

/// Targets that are none of the files of `scan`, if there is one, nor of `checkpoint`: a file, `seeded:N`, or, if none is named, the released one.
pub fn guard(overwrite: bool, scan: Option<&Path>, checkpoint: Option<&Path>) -> Result<Targets> {
    let mut targets = Targets::new(overwrite);
    if let Some(scan) = scan {
        targets.reads("the input", read_of(scan)?);
    }
    match checkpoint {
        Some(path) => targets.reads("the checkpoint", checkpoint::files_of(path)),
        None => targets.reads("the checkpoint", Hub::from_env().ok().and_then(|hub| hub.cached(&RELEASED))),
    }
    Ok(targets)
}

/// The files that the scan `input` is read from. Outputs that go into its folder are not among them, so that the same
/// command can be run again.
///
/// # Errors
/// If its folder cannot be read.
pub fn read_of(input: &Path) -> Result<Vec<PathBuf>> {
    let mut files = files_of(input)?;
    files.retain(|file| file == input || !is_own(file));
    Ok(files)
}

/// Makes the folder that outputs go into, if there is none.
///
/// # Errors
/// If that fails, or a file or a link to nowhere has its name.
pub fn make_folder(folder: &Path) -> Result<()> {
    let fail = |problem: String| Error::output(folder.display(), problem);
    match fs::create_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(_) if folder.exists() => Err(fail("is a file, and outputs go into a folder; give another name".into())),
        Err(_) if folder.is_symlink() => {
            Err(fail("is a link to a folder that does not exist; make that folder, or remove the link".into()))
        }
        Err(e) => Err(fail(format!("the folder cannot be made: {e}"))),
    }
}
