//! One scan of a job, with the name of its outputs.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::name::name;
use super::reads::read_of;
use super::text::name_text;
use crate::archive::identity;
use crate::error::{Error, Result};

/// A scan as a file or a folder, and the name of its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// The path to open: a file, a folder, or the word `phantom`.
    pub input: PathBuf,
    /// The series of a DICOM folder; none if the folder holds only one.
    pub series: Option<String>,
    /// The name of the outputs, without an ending.
    pub name: String,
    /// The suffix of the name if the scan is one of several series of a folder, else empty.
    pub tail: String,
    /// Number of folders between the scan and the input folder.
    pub folders: usize,
    /// The hash of the content, once it is computed. The manifest and the outputs share it, so the scan is hashed once.
    pub(super) content_sha256: OnceCell<String>,
}

impl Case {
    /// Creates a case of the scan `input`, named after its file.
    pub fn new(input: impl Into<PathBuf>) -> Self {
        let input = input.into();
        Self { name: name(&input, 0), input, ..Self::default() }
    }

    /// Chooses one series of the scan, as [`crate::ct::Volume::open_series`] does.
    #[must_use]
    pub fn with_series(self, series: impl Into<String>) -> Self {
        Self { series: Some(series.into()), ..self }
    }

    /// Returns whether the scan is the built-in slice.
    pub fn is_phantom(&self) -> bool {
        self.input.as_os_str() == "phantom"
    }

    /// Returns the input as text for metadata and tables: on Windows with `/` between names, so that a file has one text
    /// whether it was named or found in a folder.
    pub fn text(&self) -> String {
        let text = name_text(&self.input);
        if cfg!(windows) { text.replace('\\', "/") } else { text }
    }

    /// Returns the hash of all files that the scan is read from ([`identity`]), or none for the built-in slice.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn sha256(&self) -> Result<Option<String>> {
        if self.is_phantom() {
            return Ok(None);
        }
        if let Some(hash) = self.content_sha256.get() {
            return Ok(Some(hash.clone()));
        }
        let hash = identity(&self.input, &read_of(&self.input)?).map_err(|e| Error::input(self.input.display(), e))?;
        Ok(Some(self.content_sha256.get_or_init(|| hash).clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_hash_of_a_case_covers_every_file_that_it_is_read_from() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("series")).expect("made");
        for name in ["x.hdr", "x.img", "series/0", "series/.1"] {
            fs::write(at(name), "1").expect("written");
        }
        let hash = |name: &str| Case::new(at(name)).sha256().expect("read");
        for (case, part) in [("x.hdr", "x.img"), ("x.hdr", "x.hdr"), ("series", "series/.1")] {
            let before = hash(case);
            fs::write(at(part), "2").expect("written");
            assert_ne!(hash(case), before, "{part}");
        }
        let before = hash("series");
        fs::write(at("series/manifest.jsonl"), "{}").expect("written");
        fs::write(at("series/.out.partial"), "half").expect("written");
        assert_eq!(hash("series"), before, "outputs in the folder do not count");
        fs::rename(at("series/.1"), at("series/.2")).expect("renamed");
        assert_ne!(hash("series"), before, "the name of a file counts");
        assert_eq!(Case::new("phantom").sha256().expect("built in"), None);
    }
}
