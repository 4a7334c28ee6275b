//! The identity of a file on the disk, whatever it is called.

use std::fs::File;
use std::path::Path;

/// The identity of a file on the disk, the same under all of its names: other spellings, symlinks, hard links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileId(
    /// The number of the disk, and of the file there.
    #[cfg(any(unix, windows))]
    (u64, u64),
    /// The real path, where files have no numbers.
    #[cfg(not(any(unix, windows)))]
    std::path::PathBuf,
);

#[cfg(unix)]
impl FileId {
    /// Returns the identity of the file that `path` leads to, or `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|about| Self::from(&about))
    }

    /// Returns the identity of the open `file`, and how many names (hard links) lead to it.
    pub(super) fn of_open(file: &File) -> Option<(Self, u64)> {
        use std::os::unix::fs::MetadataExt;
        file.metadata().ok().map(|about| (Self::from(&about), about.nlink()))
    }
}

#[cfg(unix)]
impl From<&std::fs::Metadata> for FileId {
    fn from(about: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self((about.dev(), about.ino()))
    }
}

#[cfg(windows)]
impl FileId {
    /// Returns the identity of the file that `path` leads to, or `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let open = winapi_util::Handle::from_path_any(path).ok()?;
        Self::of_open(open.as_file()).map(|(id, _)| id)
    }

    /// Returns the identity of the open `file`, and how many names (hard links) lead to it.
    pub(super) fn of_open(file: &File) -> Option<(Self, u64)> {
        let about = winapi_util::file::information(file).ok()?;
        Some((Self((about.volume_serial_number(), about.file_index())), about.number_of_links()))
    }
}

#[cfg(not(any(unix, windows)))]
impl FileId {
    /// Returns the identity of the file that `path` leads to, or `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        path.canonicalize().ok().map(Self)
    }

    /// Returns `None`: an open file does not tell its path.
    pub(super) fn of_open(_: &File) -> Option<(Self, u64)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_known_under_every_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).expect("made");
        for name in ["one", "other"] {
            fs::write(at(name), "HU").expect("written");
        }
        let open = File::open(at("one")).expect("opened");
        let names = || FileId::of_open(&open).expect("a file").1;
        assert_eq!(names(), 1);
        fs::hard_link(at("one"), at("hard")).expect("linked");
        assert_eq!(names(), 2);
        let one = FileId::of_open(&open).map(|(id, _)| id);
        assert!(["one", "hard", "sub/../one"].iter().all(|name| FileId::of(&at(name)) == one));
        assert!(FileId::of(&at("other")).is_some_and(|other| Some(other) != one));
        assert_eq!(FileId::of(&at("missing")), None);
    }
}
