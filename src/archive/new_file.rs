//! A file that appears under its name when it is complete, and not before.

use std::fmt::Display;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A file being written under a hidden name beside its target. [`NewFile::commit`] renames it; dropped before that, it is removed.
#[derive(Debug)]
pub struct NewFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl NewFile {
    /// Starts a file that is to replace `target`.
    ///
    /// # Errors
    /// If `target` is no name for a file, exists as something else (a folder, a device), or its folder is missing or not writable.
    pub fn create(target: impl AsRef<Path>) -> Result<Self> {
        Self::under(target.as_ref(), None)
    }

    /// As [`NewFile::create`] for a caller that is alone at `target`: under one name always, so that what a killed run left is replaced.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub fn create_alone(target: impl AsRef<Path>) -> Result<Self> {
        let left = beside(target.as_ref(), "new.partial")?;
        // If there is none, or it cannot be removed, creating the file says so.
        let _ = std::fs::remove_file(left);
        Self::under(target.as_ref(), Some("new"))
    }

    /// Under the hidden name `.NAME.MIDDLE.partial`, with a random middle if none is given.
    fn under(target: &Path, middle: Option<&str>) -> Result<Self> {
        let hidden = beside(target, "")?;
        let folder = hidden.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fail = |problem: String| Error::output(target.display(), problem);
        let prefix = hidden.file_name().unwrap_or_default().to_string_lossy().to_string() + middle.unwrap_or_default();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        if middle.is_some() {
            builder.rand_bytes(0);
        }
        // As any new file: what the umask leaves of rw-rw-rw-, not the rw------- of a secret.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(folder).map_err(|e| fail(format!("cannot write into {}: {}", folder.display(), reason(&e))))?;
        Ok(Self { temporary, target: target.to_path_buf() })
    }

    /// Writes `bytes` at `offset` from the start.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.temporary.as_file_mut();
        let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
        written.map_err(|e| self.failed(e))
    }

    /// Gives the complete file its name, in place of what had it before.
    ///
    /// # Errors
    /// If the disk fails or the name is taken by something that cannot be replaced.
    pub fn commit(self) -> Result<()> {
        self.temporary.as_file().sync_all().map_err(|e| self.failed(e))?;
        let Self { temporary, target } = self;
        temporary.persist(&target).map(drop).map_err(|e| Error::output(target.display(), e.error))
    }

    /// The file itself, for whoever writes it as a stream.
    pub fn stream(&mut self) -> &mut std::fs::File {
        self.temporary.as_file_mut()
    }

    /// An error that names the target.
    pub fn failed(&self, problem: impl Display) -> Error {
        Error::output(self.target.display(), problem)
    }
}

/// The hidden name `.NAME.SUFFIX` beside the file `target`, which need not exist.
///
/// # Errors
/// If `target` is no name for a file, exists as something else (a folder, a device), or its folder is missing.
pub(super) fn beside(target: &Path, suffix: &str) -> Result<PathBuf> {
    let fail = |problem: String| Error::output(target.display(), problem);
    let Some(name) = target.file_name() else { return Err(fail("expected the name of a file".into())) };
    if target.metadata().is_ok_and(|m| !m.is_file()) {
        return Err(fail("exists already and is no file; give another name".into()));
    }
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(fail(format!("there is no folder {}; create it first", folder.display())));
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(suffix);
    Ok(target.with_file_name(hidden))
}

/// The system's reason alone: `tempfile` adds the hidden name to it.
fn reason(error: &std::io::Error) -> String {
    error.get_ref().and_then(std::error::Error::source).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            (at("folder"), "exists already and is no file"),
            (PathBuf::from("/"), "expected the name of a file"),
            (PathBuf::from(""), "expected the name of a file"),
        ] {
            let error = NewFile::create(&path).expect_err("refused").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
