//! The list of files that a scan is read from.

use std::path::{Path, PathBuf};

use super::nifti;
use crate::archive::Listing;
use crate::error::{Error, Problem, Result};

/// Returns every file that a reader of the scan `path` may open, sorted. For a folder these are all files below it, for
/// a NIfTI pair both files. The identity of a scan is computed from the contents of these files, and no output may
/// overwrite one of them.
///
/// # Errors
/// If `path` cannot be read, or is one file of a pair and the other file is missing.
pub fn files_of(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let fail = |problem: Problem| Error::input(path.display(), problem);
    if path.is_dir() {
        return Ok(Listing::below(path).map_err(|e| fail(e.into()))?.files);
    }
    let mut files = vec![path.to_path_buf()];
    if nifti::is_nifti(path) {
        files = nifti::files(path).map(|(head, image)| [head].into_iter().chain(image).collect()).map_err(fail)?;
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pair_is_two_files_and_a_folder_all_below_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("series")).expect("made");
        for name in ["x.hdr", "x.img.gz", "y.nii", "series/2", "series/.1"] {
            fs::write(at(name), "").expect("written");
        }
        assert_eq!(files_of(at("x.hdr")).expect("found"), [at("x.hdr"), at("x.img.gz")]);
        assert_eq!(files_of(at("x.img.gz")).expect("found"), [at("x.hdr"), at("x.img.gz")]);
        assert_eq!(files_of(at("y.nii")).expect("found"), [at("y.nii")]);
        assert_eq!(files_of(at("series")).expect("found"), [at("series/.1"), at("series/2")]);
        fs::remove_file(at("x.hdr")).expect("removed");
        assert!(files_of(at("x.img.gz")).expect_err("refused").to_string().contains("x.hdr is missing"));
    }
}
