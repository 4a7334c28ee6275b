//! The list of files that a scan is read from.

use std::path::{Path, PathBuf};

use super::{metaimage, nifti, nrrd};
use crate::archive::{Listing, is_folder};
use crate::error::{Error, Problem, Result};

/// Returns every file that a reader of the scan `path` may open, sorted. For a folder these are all files below it, for
/// a header and its voxels in two files both. The identity of a scan is computed from the contents of these files, and no output may
/// overwrite one of them.
///
/// # Errors
/// If `path` cannot be read or its header does not name the file of its voxels, or if it is one file of a NIfTI pair and
/// the other file is missing.
pub fn files_of(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let fail = |problem: Problem| Error::input(path.display(), problem);
    if is_folder(path) {
        return Ok(Listing::below(path).map_err(|e| fail(e.into()))?.files);
    }
    let (head, data) = match () {
        () if nifti::is_nifti(path) => nifti::files(path).map_err(fail)?,
        () if nrrd::is_nrrd(path) => (path.into(), nrrd::data_file(path).map_err(fail)?),
        () if metaimage::is_metaimage(path) => (path.into(), metaimage::data_file(path).map_err(fail)?),
        () => (path.into(), None),
    };
    let mut files: Vec<PathBuf> = [head].into_iter().chain(data).collect();
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
