//! Opens input files. Only plain files are read, because opening or reading a pipe or a device could block forever.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::lent::{self, LentReader};
use super::listing::kind;

/// An open input file: one of the system, or one that a program lends ([`super::LentFolder`]).
pub struct InputFile(Source);

enum Source {
    System(File),
    Lent(LentReader),
}

impl InputFile {
    /// Returns the length in bytes.
    ///
    /// # Errors
    /// If the system does not tell it.
    pub fn length(&self) -> io::Result<u64> {
        match &self.0 {
            Source::System(file) => Ok(file.metadata()?.len()),
            Source::Lent(file) => Ok(file.length()),
        }
    }

    /// Returns another handle of the same file. Handles of one file of the system share its offset.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(match &self.0 {
            Source::System(file) => Source::System(file.try_clone()?),
            Source::Lent(file) => Source::Lent(file.clone()),
        }))
    }
}

impl Read for InputFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::System(file) => file.read(into),
            Source::Lent(file) => file.read(into),
        }
    }
}

impl Seek for InputFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.0 {
            Source::System(file) => file.seek(to),
            Source::Lent(file) => file.seek(to),
        }
    }
}

impl fmt::Debug for InputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputFile")
    }
}

/// Opens the plain file `path`, or the plain file that a symlink at `path` points to, for reading.
///
/// # Errors
/// If the file cannot be opened, or is a folder, a pipe, a socket or a device. The error says which.
pub fn open_plain(path: &Path) -> io::Result<InputFile> {
    if lent::is_lent(path) {
        return lent::open(path).map(|file| InputFile(Source::Lent(file)));
    }
    check_plain(path)?;
    let file = File::open(path)?;
    // The name may have come to point to another file between the check and the opening.
    refuse(&file.metadata()?)?;
    Ok(InputFile(Source::System(file)))
}

/// Checks that `path` is a plain file, or a symlink to one, as [`open_plain`] does; for files that other code opens.
///
/// # Errors
/// As [`open_plain`].
pub fn check_plain(path: &Path) -> io::Result<()> {
    refuse(&fs::metadata(path)?)
}

/// Returns whether `path` is a folder, of the system or lent.
pub fn is_folder(path: &Path) -> bool {
    if lent::is_lent(path) { lent::is_folder(path) } else { path.is_dir() }
}

/// Returns whether there is a plain file `path`, of the system or lent.
pub fn is_file(path: &Path) -> bool {
    if lent::is_lent(path) { lent::open(path).is_ok() } else { path.is_file() }
}

fn refuse(about: &fs::Metadata) -> io::Result<()> {
    match () {
        () if about.is_file() => Ok(()),
        () if about.is_dir() => Err(io::Error::new(ErrorKind::IsADirectory, "is a folder, not a file")),
        () => {
            let kind = kind(about.file_type());
            Err(io::Error::new(ErrorKind::InvalidInput, format!("is {kind}; expected a plain file: write what it gives into one first")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "text").expect("written");
        open_plain(&at("file")).expect("opened");
        assert!(open_plain(folder.path()).expect_err("refused").to_string().contains("is a folder"));
        assert_eq!(open_plain(&at("missing")).expect_err("refused").kind(), ErrorKind::NotFound);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("file", at("link")).expect("linked");
            open_plain(&at("link")).expect("opened");
            let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().expect("started");
            assert!(made.success());
            for (path, said) in [(at("pipe"), "is a named pipe"), ("/dev/zero".into(), "is a device")] {
                let error = open_plain(&path).expect_err("refused").to_string();
                assert!(error.contains(said), "{error}");
            }
        }
    }
}
