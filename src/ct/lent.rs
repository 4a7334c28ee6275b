//! A scan whose files a program has: in memory, or in a browser's page.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source::SliceReader;
use super::volume::Volume;
use super::{metaimage, nifti, nrrd};
use crate::archive::{LentFile, LentFolder, shown};
use crate::error::{Error, Problem, Result};

/// Slices that are read from lent files, which stay lent as long as the slices are used.
struct Lent {
    slices: Box<dyn SliceReader>,
    _folder: LentFolder,
}

impl SliceReader for Lent {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        self.slices.read_slice(index)
    }
}

impl Volume {
    /// Opens a scan whose files the program has, each with its path relative to some folder: one file, a file with the
    /// data file that its header names, or the files of a DICOM folder. `series` selects as in [`Volume::open_series`].
    ///
    /// Errors and [`Volume::name`] call the scan by the path of its file, or a folder of DICOM `name`.
    ///
    /// # Errors
    /// As [`Volume::open_series`], or if a path is not relative or occurs twice, or if the files are those of several
    /// scans.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use meddino::ct::Volume;
    ///
    /// # fn example(bytes: Vec<u8>) -> meddino::Result<()> {
    /// let mut scan = Volume::from_files("dropped", [("scan.nii.gz".into(), Arc::new(bytes) as _)], None)?;
    /// let slice = scan.read_slice(0)?; // [H, W] in HU
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_files(
        name: impl Into<String>,
        files: impl IntoIterator<Item = (PathBuf, Arc<dyn LentFile>)>,
        series: Option<&str>,
    ) -> Result<Self> {
        let (name, files) = (name.into(), files.into_iter().collect::<Vec<_>>());
        let path = the_one(&files).map_err(|problem| Error::input(&name, problem))?;
        let folder = LentFolder::new(files).map_err(|problem| Error::input(&name, problem))?;
        let path = folder.path().join(path);
        let name = if shown(&path) == Path::new("") { name } else { shown(&path).display().to_string() };
        let opened = Self::open_series(&path, series).map_err(|error| renamed(error, &name))?;
        Ok(opened.renamed(name).with_slices(|slices| Box::new(Lent { slices, _folder: folder })))
    }
}

/// Returns the path to open: the only file, the only one that begins a scan, or the empty path for a folder of DICOM.
fn the_one(files: &[(PathBuf, Arc<dyn LentFile>)]) -> Result<PathBuf, Problem> {
    let has_ending = |path: &Path, ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    let is_head = |path: &Path| {
        let is_image = [path, &path.with_extension("")].iter().any(|path| has_ending(path, "img"));
        has_ending(path, "npy") || (nifti::is_nifti(path) && !is_image) || nrrd::is_nrrd(path) || metaimage::is_metaimage(path)
    };
    let heads: Vec<&PathBuf> = files.iter().map(|(path, _)| path).filter(|path| is_head(path)).collect();
    match (files, &heads[..]) {
        ([], _) => Err("no file was given; expected the files of one scan".into()),
        ([(path, _)], _) => Ok(path.clone()),
        (_, []) => Ok(PathBuf::new()),
        (_, [path]) => Ok((*path).clone()),
        (_, [first, second, ..]) => Err(format!(
            "{} scans were given at once ({}, {}{}); give the files of one",
            heads.len(),
            first.display(),
            second.display(),
            if heads.len() > 2 { ", ..." } else { "" }
        )
        .into()),
    }
}

/// Returns the same error about `name`.
fn renamed(error: Error, name: &str) -> Error {
    match error {
        Error::Input { problem, source, .. } => Error::Input { source_name: name.to_owned(), problem, source },
        other => other,
    }
}
