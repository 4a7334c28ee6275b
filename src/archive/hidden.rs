//! The unfinished file of an output: hidden next to its target, locked against other runs, and renamed when it is
//! complete.

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempPath;

use super::file_id::FileId;
use super::listing::folder_of;
use super::windows_name;
use crate::error::{Error, Problem, Result};

/// How long a run waits for another run to release the lock. Runs hold the locks of small files only briefly.
const PATIENCE: Duration = Duration::from_millis(200);

/// A locked file under a hidden name. [`Hidden::commit`] renames it to its target, [`Hidden::keep`] leaves it for a
/// later run, and dropping it removes it.
///
/// If the target is a symlink, the file that the symlink points to is replaced, so that the symlink stays. A device or
/// a pipe is never replaced: the finished bytes are written into it.
#[derive(Debug)]
pub(super) struct Hidden {
    pub file: File,
    /// The target as the user named it.
    target: PathBuf,
    place: Place,
}

/// Where the finished bytes go.
#[derive(Debug)]
enum Place {
    /// The hidden file is renamed to its target.
    Beside {
        hidden: PathBuf,
        /// The target with symlinks resolved.
        real: PathBuf,
        leave: bool,
    },
    /// The bytes are copied into a device or a pipe. The path removes the temporary file that holds the bytes until
    /// then.
    Stream(#[expect(dead_code, reason = "removes the file when it is dropped")] TempPath),
}

impl Hidden {
    /// Opens `.NAME.SUFFIX` next to `target` and locks it. The contents that an earlier run left in the file are kept.
    ///
    /// # Errors
    /// If `target` does not name a file, is a folder, or is a dangling symlink; if its folder is missing or not
    /// writable; if another run holds the lock; or if somebody has put a link under the hidden name.
    pub fn open(target: &Path, suffix: &str) -> Result<Self> {
        let fail = |problem: Problem| Error::output(target.display(), problem);
        if is_stream(target) {
            let none = |e: io::Error| fail(Problem::from(e).within(format_args!("no temporary file in {}", env::temp_dir().display())));
            let temporary = tempfile::NamedTempFile::new().map_err(none)?;
            let (file, path) = temporary.into_parts();
            return Ok(Self { file, target: target.into(), place: Place::Stream(path) });
        }
        let real = resolved(target).map_err(fail)?;
        let hidden = beside(&real, suffix).map_err(fail)?;
        let file = open_locked(&hidden).map_err(fail)?;
        Ok(Self { file, target: target.into(), place: Place::Beside { hidden, real, leave: false } })
    }

    /// Renames the complete file to its target and replaces any file of that name. If the target is a device or a pipe,
    /// writes the bytes into it.
    ///
    /// # Errors
    /// If the disk fails, or the name belongs to something that cannot be replaced.
    pub fn commit(mut self) -> Result<()> {
        let done = match &mut self.place {
            Place::Beside { hidden, real, leave } => {
                let renamed = self.file.sync_all().map_err(Problem::from).and_then(|()| replace(hidden, real));
                *leave = renamed.is_ok();
                renamed
            }
            Place::Stream(_) => pour(&mut self.file, &self.target).map_err(Problem::from),
        };
        done.map_err(|e| self.failed(e))
    }

    /// Leaves the file for a later run.
    pub fn keep(mut self) {
        if let Place::Beside { leave, .. } = &mut self.place {
            *leave = true;
        }
    }

    /// Creates an error that names the target.
    pub fn failed(&self, problem: impl Into<Problem>) -> Error {
        Error::output(self.target.display(), problem)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Place::Beside { hidden, leave: false, .. } = &self.place {
            // A failure here has no better remedy, and the next run reuses the file.
            let _ = fs::remove_file(hidden);
        }
    }
}

/// Returns whether writing to `path` means writing into an existing stream: a pipe, a device, or a name for one of the
/// process's own streams, whatever that name leads to.
pub fn is_stream(path: &Path) -> bool {
    let is_own = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"].iter().any(|name| path.starts_with(name));
    is_own || fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir())
}

/// Renames `from` to `to`, and replaces any file of that name.
fn replace(from: &Path, to: &Path) -> Result<(), Problem> {
    fs::rename(from, to).map_err(|e| {
        // Windows replaces no file that a program has open, unless that program agrees.
        if cfg!(windows) && to.is_file() {
            Problem::caused_by(format!("cannot be replaced ({e}); close the program that has it open"), e)
        } else {
            e.into()
        }
    })
}

/// Copies all of `from` into the existing `to`.
fn pour(from: &mut File, to: &Path) -> io::Result<()> {
    from.seek(SeekFrom::Start(0))?;
    let mut stream = File::options().write(true).open(to)?;
    io::copy(from, &mut stream).map(drop)
}

/// Returns `target`, with symlinks followed if its last component is a symlink. `target` need not exist.
fn resolved(target: &Path) -> Result<PathBuf, Problem> {
    let Some(name) = target.file_name() else { return Err("expected the name of a file".into()) };
    // `Path::file_name` also returns a name for `out/` and `out/.`.
    if !target.as_os_str().as_encoded_bytes().ends_with(name.as_encoded_bytes()) {
        return Err("is the name of a folder; expected that of a file".into());
    }
    if let Some(fault) = windows_name::fault(&name.to_string_lossy()).filter(|_| cfg!(windows)) {
        return Err(fault.into());
    }
    if !target.is_symlink() {
        return Ok(target.to_path_buf());
    }
    target.canonicalize().map_err(|e| {
        let to = fs::read_link(target).unwrap_or_default();
        let text = format!("is a link to {}, which cannot be followed ({e}); remove the link, or give another name", to.display());
        Problem::caused_by(text, e)
    })
}

/// Returns the hidden name `.NAME.SUFFIX` next to the file `target`, which need not exist.
fn beside(target: &Path, suffix: &str) -> Result<PathBuf, Problem> {
    let Some(name) = target.file_name() else { return Err("expected the name of a file".into()) };
    if target.is_dir() {
        return Err("exists already and is a folder; give another name".into());
    }
    let folder = folder_of(target);
    if !folder.is_dir() {
        return Err(format!("there is no folder {}; create it first", folder.display()).into());
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(suffix);
    Ok(target.with_file_name(hidden))
}

/// Opens the file at `path`, creates it if it is missing, and locks it. The lock ends with the process.
fn open_locked(path: &Path) -> Result<File, Problem> {
    let name = path.display();
    let began = Instant::now();
    loop {
        let file = open_own(path, File::options().read(true).write(true).create(true).truncate(false))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                sleep(PATIENCE / 10);
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&file);
                return Err(format!("{holder} is writing it ({name} is locked); wait for that run, or give another name").into());
            }
            // Some network file systems do not support locks.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => {
                // An empty file was created only for the lock, so nobody needs it.
                if file.metadata().is_ok_and(|about| about.len() == 0) {
                    let _ = fs::remove_file(path);
                }
                return Err(Problem::from(e).within(format_args!("cannot lock {name}")));
            }
        }
        // The run that held the lock may have renamed or removed the file meanwhile. Then this lock protects no file.
        if is_still(path, &file) {
            return Ok(file);
        }
    }
}

/// Opens one of this program's own files, such as an unfinished output or a manifest, with `options`. Links are not
/// followed, because in a folder that others can write to, a link under the file's name could redirect the write to any
/// of the user's files.
///
/// # Errors
/// If the file is a symlink, has a second name (a hard link), is not a plain file, or cannot be opened.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> Result<File, Problem> {
    let name = path.display();
    if path.is_symlink() {
        return Err(format!("{name} is a link, and not followed: it could lead to any other file; remove it").into());
    }
    without_links(options);
    let cannot = |e: io::Error| Problem::from(e).within(format_args!("cannot write {name}"));
    let file = options.open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("cannot write {name}: it is no plain file; remove it").into());
    }
    if FileId::of_open(&file).is_some_and(|(_, names)| names > 1) {
        return Err(format!("cannot write {name}: another file name leads to it as well (a hard link); remove it").into());
    }
    Ok(file)
}

#[cfg(unix)]
fn without_links(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    // O_NONBLOCK: opening a pipe must not wait for its other end.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
}

#[cfg(windows)]
fn without_links(options: &mut OpenOptions) {
    use std::os::windows::fs::OpenOptionsExt;
    const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
}

#[cfg(not(any(unix, windows)))]
fn without_links(_: &mut OpenOptions) {}

/// Describes the run that holds the lock on `file`, with its process number where the system reports it.
#[cfg(target_os = "linux")]
fn holder(file: &File) -> String {
    use std::os::unix::fs::MetadataExt;
    // A line of /proc/locks, see proc_locks(5): `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`.
    let inode = file.metadata().map_or(0, |about| about.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let process = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number: u64 = fields.get(5)?.rsplit(':').next()?.parse().ok()?;
        (fields[1] == "FLOCK" && number == inode).then(|| fields[4].to_string())
    });
    process.map_or_else(|| "another run".into(), |id| format!("another run (process {id})"))
}

#[cfg(not(target_os = "linux"))]
fn holder(_: &File) -> String {
    "another run".into()
}

/// Returns whether `path` still is the open `file`, and no link to it. Where open files have no identity, it must be some
/// file.
fn is_still(path: &Path, file: &File) -> bool {
    let here = FileId::of(path).filter(|_| !path.is_symlink());
    FileId::of_open(file).map_or(here.is_some(), |(id, _)| here == Some(id))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn desk() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_path_buf();
        (folder, move |name: &str| root.join(name))
    }

    fn finish(target: &Path, bytes: &[u8]) -> Result<()> {
        let mut hidden = Hidden::open(target, "partial")?;
        hidden.file.write_all(bytes).map_err(|e| hidden.failed(e))?;
        hidden.commit()
    }

    #[test]
    fn no_link_under_the_hidden_name_is_followed() {
        let (_folder, at) = desk();
        fs::write(at("scan"), "HU").expect("written");
        symlink("scan", at(".out.partial")).expect("linked");
        let error = finish(&at("out"), b"features").expect_err("refused").to_string();
        assert!(error.contains(".out.partial is a link"), "{error}");
        fs::remove_file(at(".out.partial")).expect("removed");
        symlink("nowhere", at(".out.partial")).expect("linked");
        assert!(finish(&at("out"), b"features").is_err(), "a dangling one neither");
        fs::remove_file(at(".out.partial")).expect("removed");
        fs::hard_link(at("scan"), at(".out.partial")).expect("linked");
        let error = finish(&at("out"), b"features").expect_err("refused").to_string();
        assert!(error.contains("a hard link"), "{error}");
        assert_eq!(fs::read(at("scan")).expect("read"), b"HU");
        assert!(!at("out").exists() && !at("nowhere").exists());
    }

    #[test]
    fn a_target_that_is_a_link_stays_one() {
        let (_folder, at) = desk();
        fs::create_dir(at("store")).expect("made");
        fs::write(at("store/real"), "old").expect("written");
        symlink("store/real", at("out")).expect("linked");
        finish(&at("out"), b"new").expect("written");
        assert!(at("out").is_symlink());
        assert_eq!(fs::read(at("store/real")).expect("read"), b"new");
        symlink("gone", at("dangling")).expect("linked");
        let error = finish(&at("dangling"), b"new").expect_err("refused").to_string();
        assert!(error.contains("is a link to gone"), "{error}");
    }

    #[test]
    fn a_pipe_is_written_into_and_stays() {
        let (_folder, at) = desk();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo").success());
        let path = at("pipe");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            File::open(path).and_then(|mut pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes)
        });
        finish(&at("pipe"), b"features").expect("written");
        assert_eq!(reader.join().expect("a reader").expect("read"), b"features");
        assert!(is_stream(&at("pipe")), "it is still a pipe");
        finish(Path::new("/dev/null"), b"features").expect("written");
        assert!(is_stream(Path::new("/dev/null")));
    }

    #[test]
    fn the_loser_is_told_who_holds_the_lock() {
        let (_folder, at) = desk();
        let first = Hidden::open(&at("out"), "partial").expect("opened");
        let error = Hidden::open(&at("out"), "partial").expect_err("locked").to_string();
        assert!(error.contains("is writing it"), "{error}");
        #[cfg(target_os = "linux")]
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(!at(".out.partial").exists());
    }
}
