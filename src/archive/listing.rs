//! Folder listings that follow symlinks and report every entry that is neither a file nor a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::lent;

/// The greatest depth of folders that a search enters.
const MAX_DEPTH: usize = 16;

/// The entries of a folder, each kind sorted by path. Symlinks are followed: a symlink to a file counts as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Plain files.
    pub files: Vec<PathBuf>,
    /// Folders.
    pub folders: Vec<PathBuf>,
    /// Entries that are neither files nor folders, or that cannot be examined. They are never opened, because opening a
    /// pipe or a device could block forever.
    pub others: Vec<Other>,
}

/// An entry that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Other {
    /// Path of the entry.
    pub path: PathBuf,
    /// What the entry is: `a dangling link`, `a named pipe`.
    pub why: String,
}

impl Listing {
    /// Lists the entries directly in `folder`, hidden names included.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match fs::metadata(&path) {
                Ok(about) if about.is_file() => listing.files.push(path),
                Ok(about) if about.is_dir() => listing.folders.push(path),
                Ok(about) => listing.others.push(Other { why: kind(about.file_type()).into(), path }),
                Err(_) if is_dangling(&path) => listing.others.push(Other { why: "a dangling link".into(), path }),
                Err(e) => listing.others.push(Other { why: format!("cannot be looked at ({e})"), path }),
            }
        }
        listing.files.sort();
        listing.folders.sort();
        listing.others.sort();
        Ok(listing)
    }

    /// Lists every file in `folder` and in the folders below it. `folders` stays empty. A folder is reported in
    /// `others` if it cannot be read, is deeper than 16, or is a symlink back to a folder that contains it.
    ///
    /// # Errors
    /// If `folder` itself cannot be read.
    pub fn below(folder: &Path) -> io::Result<Self> {
        if lent::is_lent(folder) {
            return Ok(Self { files: lent::below(folder), ..Self::default() });
        }
        let mut found = Self::default();
        found.descend(folder, &mut Vec::new())?;
        found.files.sort();
        found.others.sort();
        Ok(found)
    }

    /// Adds the entries of `folder`. `above` holds the real paths of its ancestors.
    fn descend(&mut self, folder: &Path, above: &mut Vec<PathBuf>) -> io::Result<()> {
        let here = Self::of(folder)?;
        above.push(folder.canonicalize()?);
        self.files.extend(here.files);
        self.others.extend(here.others);
        for path in here.folders {
            let entered = enter(&path, above).and_then(|_| self.descend(&path, above).map_err(|e| unreadable(&e)));
            self.others.extend(entered.err().map(|why| Other { path, why }));
        }
        above.pop();
        Ok(())
    }
}

/// Returns the folder that contains, or will contain, the file `path`.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the real path of `folder` if a search may enter it. `above` holds the real paths of the folders through
/// which the search came.
///
/// # Errors
/// If the folder cannot be read, is deeper than 16, or is a symlink back to a folder that contains it.
pub fn enter(folder: &Path, above: &[PathBuf]) -> Result<PathBuf, String> {
    match folder.canonicalize() {
        Err(e) => Err(unreadable(&e)),
        Ok(real) if above.contains(&real) => Err("a link back to a folder that contains it".into()),
        Ok(_) if above.len() > MAX_DEPTH => Err(format!("a folder deeper than {MAX_DEPTH}")),
        Ok(real) => Ok(real),
    }
}

/// Describes a folder that fails to be read with `error`.
pub fn unreadable(error: &io::Error) -> String {
    format!("a folder that cannot be read ({error})")
}

fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// Describes an entry that is neither a file nor a folder.
#[cfg(unix)]
pub(super) fn kind(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "neither a file nor a folder",
    }
}

#[cfg(not(unix))]
pub(super) fn kind(_: fs::FileType) -> &'static str {
    "neither a file nor a folder"
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_what_is_no_file_is_named() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("in/deep")).expect("made");
        fs::create_dir_all(at("else")).expect("made");
        for name in ["in/a", "in/.hidden", "in/deep/b", "else/c"] {
            fs::write(at(name), name).expect("written");
        }
        symlink("a", at("in/link")).expect("linked");
        symlink("gone", at("in/dangling")).expect("linked");
        symlink("../../in", at("in/deep/back")).expect("linked");
        symlink("../else", at("in/elsewhere")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(at("in/socket")).expect("bound");

        let names = |paths: &[PathBuf]| -> Vec<String> {
            paths.iter().map(|path| path.strip_prefix(root.path()).expect("below").display().to_string()).collect()
        };
        let here = Listing::of(&at("in")).expect("listed");
        assert_eq!(names(&here.files), ["in/.hidden", "in/a", "in/link"]);
        assert_eq!(names(&here.folders), ["in/deep", "in/elsewhere"]);
        let below = Listing::below(&at("in")).expect("listed");
        assert_eq!(names(&below.files), ["in/.hidden", "in/a", "in/deep/b", "in/elsewhere/c", "in/link"]);
        let others: Vec<_> =
            below.others.iter().map(|other| (names(std::slice::from_ref(&other.path)).remove(0), other.why.as_str())).collect();
        let want =
            [("in/dangling", "a dangling link"), ("in/deep/back", "a link back to a folder that contains it"), ("in/socket", "a socket")];
        assert_eq!(others, want.map(|(path, why)| (path.to_string(), why)));
        assert!(Listing::of(&at("missing")).is_err());
    }
}
