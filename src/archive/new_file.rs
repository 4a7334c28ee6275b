//! A file that gets its name only when it is complete.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use super::hidden::Hidden;
use crate::error::{Problem, Result};

/// A file being written under a hidden name next to its target, locked against other runs. [`NewFile::commit`] renames
/// it; dropping it before that removes it. Data that a killed run left under the hidden name are overwritten.
///
/// If the target is a symlink, the file that the symlink points to is replaced. If the target is a device or a pipe,
/// the complete bytes are written into it.
#[derive(Debug)]
pub struct NewFile {
    hidden: Hidden,
}

impl NewFile {
    /// Starts a file that will replace `target`.
    ///
    /// # Errors
    /// If `target` does not name a file, is a folder, or is a dangling symlink; if its folder is missing or not
    /// writable; or if another run is writing the file.
    pub fn create(target: impl AsRef<Path>) -> Result<Self> {
        // The suffix differs from that of a `Partial`, because some files are made from a `Partial` of the same target.
        let hidden = Hidden::open(target.as_ref(), "new.partial")?;
        hidden.file.set_len(0).map_err(|e| hidden.failed(e))?;
        Ok(Self { hidden })
    }

    /// Writes `bytes` at `offset` from the start of the file.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = &mut self.hidden.file;
        let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
        written.map_err(|e| self.failed(e))
    }

    /// Renames the complete file to its target and replaces any file of that name.
    ///
    /// # Errors
    /// If the disk fails, or the name belongs to something that cannot be replaced.
    pub fn commit(self) -> Result<()> {
        self.hidden.commit()
    }

    /// Returns the underlying file, for callers that write a stream.
    pub fn stream(&mut self) -> &mut File {
        &mut self.hidden.file
    }

    /// Creates an error that names the target.
    pub fn failed(&self, problem: impl Into<Problem>) -> crate::error::Error {
        self.hidden.failed(problem)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.bin");
        fs::write(&path, "old").expect("written");

        let mut dropped = NewFile::create(&path).expect("created");
        dropped.write_at(0, b"half").expect("written");
        drop(dropped);
        assert_eq!(fs::read(&path).expect("read"), b"old");

        let mut file = NewFile::create(&path).expect("created");
        file.write_at(2, b"cd").expect("written");
        file.write_at(0, b"ab").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"old");
        file.commit().expect("renamed");
        assert_eq!(fs::read(&path).expect("read"), b"abcd");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing else is left in the folder");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let mode = |name: &str| fs::metadata(folder.path().join(name)).expect("there").permissions().mode();
        fs::write(folder.path().join("plain"), "").expect("written");
        NewFile::create(folder.path().join("ours")).expect("created").commit().expect("renamed");
        assert_eq!(mode("ours"), mode("plain"));
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).expect("created");
        for (path, said) in [
            (at("missing/x"), "there is no folder"),
            (at("folder"), "exists already and is a folder"),
            (PathBuf::from("/"), "expected the name of a file"),
            (PathBuf::from(""), "expected the name of a file"),
            (at("new/"), "is the name of a folder"),
            (at("new/."), "is the name of a folder"),
        ] {
            let error = NewFile::create(&path).expect_err("refused").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
