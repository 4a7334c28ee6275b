//! One repository's folder in the cache, in the layout of `huggingface_hub`:
//!
//! ```text
//! models--OWNER--NAME/
//!   refs/main                  the commit, 40 hexadecimal digits
//!   snapshots/COMMIT/FILE  ->  ../../blobs/SHA256
//!   blobs/SHA256               the bytes; SHA256.incomplete while they come
//! .locks/models--OWNER--NAME/SHA256.lock
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::archive::{NewFile, sha256_of_file};
use crate::error::{Error, Problem};

use super::event::Trouble;
use super::file::{HubFile, Identity};
use super::settings::HubSettings;

/// The location of one repository file in the cache, whether or not the file exists yet.
pub struct Folder {
    cache: PathBuf,
    /// `models--OWNER--NAME`
    repository: String,
    file: &'static str,
    revision: Option<&'static str>,
    symlinks: bool,
    offline: bool,
}

/// The result of a search for a file in the cache.
pub enum Found {
    /// The cache holds the file of the requested revision.
    Here(PathBuf),
    /// The cache holds one version of the file, in revisions that no reference points to. The path is that of the first
    /// such revision.
    Pinned(PathBuf),
    /// The cache holds several versions of the file, of these commits, and nothing says which one is meant.
    Several(Vec<String>),
    /// The cache does not hold the file, or not in the revision that the cache's own reference names.
    Nowhere,
}

impl Found {
    /// Returns the file's path if exactly one version is meant.
    pub fn path(self) -> Option<PathBuf> {
        match self {
            Self::Here(path) | Self::Pinned(path) => Some(path),
            Self::Several(_) | Self::Nowhere => None,
        }
    }
}

/// A lock that is held while a blob is written.
pub struct Lock(#[expect(dead_code, reason = "the lock goes with the file")] Option<File>);

impl Folder {
    pub fn new(settings: &HubSettings, file: &HubFile) -> Self {
        let repository = format!("models--{}", file.repository.replace('/', "--"));
        let HubSettings { cache, symlinks, offline, .. } = settings;
        Self { cache: cache.clone(), repository, file: file.file, revision: file.revision, symlinks: *symlinks, offline: *offline }
    }

    fn root(&self) -> PathBuf {
        self.cache.join(&self.repository)
    }

    fn pointer(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit).join(self.file)
    }

    /// Returns the path of the blob with this SHA-256.
    pub fn blob(&self, sha256: &str) -> PathBuf {
        self.root().join("blobs").join(sha256)
    }

    /// Finds the file of the requested commit. Without a requested commit, finds the file of the commit that `main` had
    /// when the hub was last asked for it.
    ///
    /// The cache has no reference `main` if a program fetched one revision by its name. In that case, and when the hub
    /// must not be asked, the file of any revision is taken, provided that all revisions that have the file have the
    /// same version.
    pub fn find(&self) -> Found {
        let there = |commit: &str| Some(self.pointer(commit)).filter(|path| path.is_file());
        let main = fs::read_to_string(self.root().join("refs/main")).ok();
        let commit = self.revision.or(main.as_deref().map(str::trim)).filter(|commit| is_hex(commit, 40));
        if let Some(path) = commit.and_then(there) {
            return Found::Here(path);
        }
        if self.revision.is_some() || (main.is_some() && !self.offline) {
            return Found::Nowhere;
        }
        let commits = self.commits();
        let versions: BTreeSet<_> = commits.iter().map(|commit| fs::canonicalize(self.pointer(commit)).ok()).collect();
        match (&commits[..], versions.len()) {
            ([], _) => Found::Nowhere,
            ([commit, ..], 1) => Found::Pinned(self.pointer(commit)),
            _ => Found::Several(commits),
        }
    }

    /// Returns the commits whose snapshots contain the file.
    fn commits(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join("snapshots")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut commits: Vec<_> = names.filter(|name| is_hex(name, 40) && self.pointer(name).is_file()).collect();
        commits.sort();
        commits
    }

    /// Identifies the file at `path`, and checks it against its recorded SHA-256 if there is one.
    pub fn identify(&self, path: &Path) -> io::Result<Identity> {
        let found = sha256_of_file(path)?;
        let commit = commit(path);
        let is_sound = match fs::read_link(path) {
            Ok(target) => target.file_name().and_then(|name| name.to_str()).filter(|name| is_hex(name, 64)).map(|name| name == found),
            // The file is no symlink, so the blob is a hard link or a copy. Without blobs, the SHA-256 cannot be
            // checked.
            Err(_) if self.blob(&found).exists() => Some(true),
            Err(_) => (!self.blobs().is_empty()).then_some(false),
        };
        Ok(Identity { commit, sha256: found, is_sound })
    }

    /// Returns the blobs whose names are a SHA-256, as (name, path).
    fn blobs(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(self.root().join("blobs")).into_iter().flatten().flatten();
        entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).filter(|(name, _)| is_hex(name, 64)).collect()
    }

    /// Removes `path`, and every blob whose SHA-256 differs from its name.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        self.blobs().into_iter().try_for_each(|(name, blob)| if sha256_of_file(&blob)? == name { Ok(()) } else { fs::remove_file(blob) })
    }

    /// Creates the folders that a fetch writes to.
    pub fn prepare(&self) -> Result<(), Trouble> {
        [self.root().join("blobs"), self.root().join("refs"), self.locks()].iter().try_for_each(|folder| self.make(folder))
    }

    fn make(&self, folder: &Path) -> Result<(), Trouble> {
        fs::create_dir_all(folder).map_err(|e| self.cannot_write(e))
    }

    fn locks(&self) -> PathBuf {
        self.cache.join(".locks").join(&self.repository)
    }

    /// Waits until no other process fetches `sha256`. Calls `waiting` first if another process does.
    pub fn lock(&self, sha256: &str, waiting: impl FnOnce()) -> Result<Lock, Trouble> {
        let path = self.locks().join(format!("{sha256}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| self.cannot_write(e))?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()
            }
            Err(TryLockError::Error(e)) => Err(e),
            Ok(()) => Ok(()),
        };
        match locked {
            Ok(()) => Ok(Lock(Some(file))),
            // Some network file systems do not support locks. Two processes then write the same bytes to the same
            // places, and the SHA-256 check catches any damage.
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(Lock(None)),
            Err(e) => Err(Trouble::Lasting(Problem::from(e).within(format_args!("{} cannot be locked", path.display())))),
        }
    }

    /// Links the blob `sha256` into the snapshot of `commit`. Unless a revision was requested, also sets `main` to that
    /// commit.
    pub fn link(&self, sha256: &str, commit: &str) -> Result<PathBuf, Trouble> {
        let path = self.pointer(commit);
        self.make(path.parent().expect("a folder of the snapshot"))?;
        let blob = self.blob(sha256);
        let length = |path: &Path| path.metadata().map(|m| m.len()).ok();
        // A correct file is kept, because another process may be about to open it.
        let linked = if length(&path) == length(&blob) {
            Ok(())
        } else {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                _ => self.point(&path, &blob),
            }
        };
        // The reference is written last, so that every process that follows it finds the file.
        linked.map_err(|e| self.cannot_write(e))?;
        if self.revision.is_none() {
            self.set_main(commit)?;
        }
        Ok(path)
    }

    /// Creates a relative symlink from `path` to `blob`, so that the cache can be moved as a whole. Where symlinks are
    /// not available, creates a hard link, or else a copy.
    fn point(&self, path: &Path, blob: &Path) -> io::Result<()> {
        let target: PathBuf = ["..", "..", "blobs"].iter().map(AsRef::as_ref).chain(blob.file_name()).collect();
        let linked = if self.symlinks { symlink(&target, path) } else { Err(ErrorKind::Unsupported.into()) };
        // Some systems make no symlink, or one that leads nowhere, without an error.
        let linked = linked.and_then(|()| path.metadata().map(drop));
        linked
            .or_else(|_| {
                let _ = fs::remove_file(path);
                fs::hard_link(blob, path)
            })
            .or_else(|_| fs::copy(blob, path).map(drop))
    }

    fn set_main(&self, commit: &str) -> Result<(), Trouble> {
        let write = || {
            let mut file = NewFile::create(self.root().join("refs/main"))?;
            file.write_at(0, commit.as_bytes())?;
            file.commit()
        };
        write().map_err(|e: Error| Trouble::Lasting(Problem::caused_by(e.to_string(), e)))
    }

    /// Creates the error for a cache folder that cannot be written to because of `error`.
    pub fn cannot_write(&self, error: io::Error) -> Trouble {
        let remedy = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "make room there, or set HF_HOME to a folder with more; what has come is kept, and the next run resumes"
            }
            _ => "set HF_HOME to a folder that can be written to",
        };
        let text = format!("cannot be written into the cache {}: {error}; {remedy}", self.cache.display());
        Trouble::Lasting(Problem::caused_by(text, error))
    }
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Returns the commit to which a file in a snapshot belongs.
pub fn commit(path: &Path) -> String {
    path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns whether `text` consists of `digits` lower-case hexadecimal digits. Such a text is safe as a file name,
/// because it cannot lead out of its folder.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
