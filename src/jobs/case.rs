//! One scan of a job, under a name of its own.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::name::name;
use super::reads::read_of;
use super::text::name_text;
use crate::archive::identity;
use crate::error::{Error, Result};

/// A scan as a file or a folder, and what its outputs are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// What to open: a file, a folder, or the word `phantom`.
    pub input: PathBuf,
    /// Which series of a DICOM folder.
    pub series: Option<String>,
    /// What its outputs are called, without an ending.
    pub name: String,
    /// What the name ends in if the scan is one of several series of a folder.
    pub tail: String,
    /// How many folders stand between the scan and the folder that was named.
    pub folders: usize,
    /// What the content is known by, once that was asked for, so that it is read once for the manifest and the outputs.
    pub(super) known_by: OnceCell<String>,
}

impl Case {
    /// The scan `input`, called by its file's name.
    pub fn new(input: impl Into<PathBuf>) -> Self {
        let input = input.into();
        Self { name: name(&input, 0), input, ..Self::default() }
    }

    /// The same scan, of which one series is looked at, as for [`crate::ct::Volume::open_series`].
    #[must_use]
    pub fn with_series(self, series: impl Into<String>) -> Self {
        Self { series: Some(series.into()), ..self }
    }

    /// Whether the scan is the built-in slice.
    pub fn is_phantom(&self) -> bool {
        self.input.as_os_str() == "phantom"
    }

    /// The input as a text, for metadata.
    pub fn text(&self) -> String {
        name_text(&self.input)
    }

    /// What the scan's content is known by ([`identity`]): every file that it is read from counts. None for the built-in slice.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn sha256(&self) -> Result<Option<String>> {
        if self.is_phantom() {
            return Ok(None);
        }
        if let Some(known) = self.known_by.get() {
            return Ok(Some(known.clone()));
        }
        let found = identity(&self.input, &read_of(&self.input)?).map_err(|e| Error::input(self.input.display(), e))?;
        Ok(Some(self.known_by.get_or_init(|| found).clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_case_is_known_by_all_that_it_is_read_from() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("series")).expect("made");
        for name in ["x.hdr", "x.img", "series/0", "series/.1"] {
            fs::write(at(name), "1").expect("written");
        }
        let of = |name: &str| Case::new(at(name)).sha256().expect("read");
        for (case, part) in [("x.hdr", "x.img"), ("x.hdr", "x.hdr"), ("series", "series/.1")] {
            let before = of(case);
            fs::write(at(part), "2").expect("written");
            assert_ne!(of(case), before, "{part}");
        }
        let before = of("series");
        fs::write(at("series/manifest.jsonl"), "{}").expect("written");
        fs::write(at("series/.out.partial"), "half").expect("written");
        assert_eq!(of("series"), before, "what is written into it does not count");
        fs::rename(at("series/.1"), at("series/.2")).expect("renamed");
        assert_ne!(of("series"), before, "a name counts");
        assert_eq!(Case::new("phantom").sha256().expect("built in"), None);
    }
}
