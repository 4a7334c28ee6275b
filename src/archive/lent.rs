//! Input files that a program lends: files of a browser's page, or bytes in memory, under paths that readers open like
//! files of the system. A reader so finds the other files of its folder, whether the system or a program has them.

use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The first part of every lent path.
const ROOT: &str = "lent:";

/// The content of a lent file. Several readers may read it at the same time.
pub trait LentFile: Send + Sync {
    /// Returns the length in bytes.
    fn length(&self) -> u64;

    /// Fills `bytes` from the offset `at` on. The file is long enough.
    ///
    /// # Errors
    /// If the content cannot be read.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
}

impl LentFile for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut reader = Cursor::new(self);
        reader.set_position(at);
        reader.read_exact(bytes)
    }
}

type Files = BTreeMap<PathBuf, Arc<dyn LentFile>>;

/// The files of all folders that are lent now.
static LENT: Mutex<Files> = Mutex::new(Files::new());

/// A folder of lent files. Dropping it takes its files back; a reader that is open keeps its file.
#[derive(Debug)]
pub struct LentFolder {
    path: PathBuf,
}

impl LentFolder {
    /// Lends `files`, each under a path relative to the folder, such as `scan/slice_1.dcm`.
    ///
    /// # Errors
    /// If a path is empty, absolute, leads out of the folder, or occurs twice.
    pub fn new(files: impl IntoIterator<Item = (PathBuf, Arc<dyn LentFile>)>) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = Self { path: Path::new(ROOT).join(NEXT.fetch_add(1, Ordering::Relaxed).to_string()) };
        for (path, content) in files {
            let is_plain = path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)));
            if !is_plain {
                let text = format!("'{}' is no path below a folder; expected one such as scan/slice_1.dcm", path.display());
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
            if with_files(|lent| lent.insert(folder.path.join(&path), content)).is_some() {
                return Err(io::Error::new(ErrorKind::AlreadyExists, format!("'{}' is lent twice; give each file once", path.display())));
            }
        }
        Ok(folder)
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LentFolder {
    fn drop(&mut self) {
        with_files(|lent| lent.retain(|path, _| !path.starts_with(&self.path)));
    }
}

fn with_files<T>(work: impl FnOnce(&mut Files) -> T) -> T {
    work(&mut LENT.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the path inside its folder if `path` is lent; any other path as it is. Messages show this.
pub fn shown(path: &Path) -> &Path {
    if !is_lent(path) {
        return path;
    }
    let mut parts = path.components();
    parts.by_ref().take(2).for_each(drop);
    parts.as_path()
}

/// Returns whether `path` is of a lent folder.
pub(super) fn is_lent(path: &Path) -> bool {
    path.components().next() == Some(Component::Normal(ROOT.as_ref()))
}

/// Returns whether `path` is a lent folder or a folder in one.
pub(super) fn is_folder(path: &Path) -> bool {
    is_lent(path) && with_files(|lent| lent.keys().any(|file| file != path && file.starts_with(path)))
}

/// Returns the paths of all files in the lent folder `path`, sorted.
pub(super) fn below(path: &Path) -> Vec<PathBuf> {
    with_files(|lent| lent.keys().filter(|file| file.starts_with(path)).cloned().collect())
}

/// Opens the lent file `path`.
///
/// # Errors
/// If there is no such file.
pub(super) fn open(path: &Path) -> io::Result<LentReader> {
    let content = with_files(|lent| lent.get(path).cloned());
    content.map(|content| LentReader { content, at: 0 }).ok_or_else(|| {
        if is_folder(path) {
            io::Error::new(ErrorKind::IsADirectory, "is a folder, not a file")
        } else {
            io::Error::new(ErrorKind::NotFound, "is not among the files that were given")
        }
    })
}

/// An open lent file, at some offset.
#[derive(Clone)]
pub(super) struct LentReader {
    content: Arc<dyn LentFile>,
    at: u64,
}

impl LentReader {
    pub fn length(&self) -> u64 {
        self.content.length()
    }
}

impl Read for LentReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.length().saturating_sub(self.at);
        let len = left.min(into.len() as u64) as usize;
        if len == 0 {
            return Ok(0);
        }
        self.content.read_at(self.at, &mut into[..len])?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for LentReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.length(), by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let at = from.checked_add_signed(by).ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "an offset before the first byte"))?;
        self.at = at;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Arc<dyn LentFile> {
        Arc::new(text.as_bytes().to_vec())
    }

    #[test]
    fn lent_files_are_found_and_read_until_their_folder_is_dropped() {
        let folder = LentFolder::new([("a/one".into(), file("first")), ("two".into(), file("second"))]).expect("lent");
        let other = LentFolder::new([("two".into(), file("else"))]).expect("lent");
        let at = |name: &str| folder.path().join(name);
        assert_eq!(below(folder.path()), [at("a/one"), at("two")]);
        assert!(is_folder(folder.path()) && is_folder(&at("a")) && !is_folder(&at("two")) && !is_folder(&at("b")));
        assert_eq!((shown(&at("a/one")), shown(Path::new("/x/y"))), (Path::new("a/one"), Path::new("/x/y")));
        let mut reader = open(&at("two")).expect("opened");
        let mut end = String::new();
        reader.seek(SeekFrom::End(-3)).expect("moved");
        reader.read_to_string(&mut end).expect("read");
        assert_eq!(end, "ond");
        assert!(reader.seek(SeekFrom::Current(-9)).is_err());
        reader.seek(SeekFrom::Start(99)).expect("moved beyond the end");
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
        assert_eq!(open(&at("a")).err().map(|e| e.kind()), Some(ErrorKind::IsADirectory));
        let (one, two) = (at("a/one"), at("two"));
        drop(folder);
        assert_eq!(open(&one).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
        assert!(open(&two).is_err() && open(&other.path().join("two")).is_ok());
        reader.rewind().expect("a file that is open is still read");
    }

    #[test]
    fn a_path_out_of_the_folder_or_twice_is_refused() {
        for path in ["", "/etc/x", "../x", "a/../../x"] {
            assert!(LentFolder::new([(path.into(), file("x"))]).is_err(), "{path}");
        }
        assert!(LentFolder::new([("x".into(), file("1")), ("x".into(), file("2"))]).is_err());
    }
}
