//! A file that one or more runs fill. It is kept next to its target and is renamed to the target when it is complete.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::hidden::Hidden;
use crate::error::{Error, Problem, Result};

/// First bytes of the trailer, which ends the file until the file is complete. The trailer holds this mark, the count
/// of what is done, and the count's complement, which reveals a torn count. The method is stored between the data and
/// the trailer.
const MARK: &[u8; 16] = b"meddino partial\n";
const TRAILER: u64 = 32;

/// The longest method that is read, in bytes.
const MAX_METHOD: u64 = 1 << 16;

/// The shortest time between the starts of two syncs. They are frequent, so that little is left to sync at the end.
const SYNC_EVERY: Duration = Duration::from_millis(100);

/// The file `.NAME.partial`, of known length, next to the file NAME that it will become. It is locked against other
/// runs.
///
/// A killed process leaves the file behind. The next process that wants the same header and length, by the same method,
/// resumes at the count. The method is a text that names everything that decides the last bits of the data, so that one
/// file never mixes data of two methods. [`Partial::commit`] renames the file, [`Partial::keep`] leaves it for a later
/// run, and dropping it removes it.
#[derive(Debug)]
pub struct Partial {
    /// Comes before `hidden`, so that it is dropped, and the thread has ended, before the file is unlocked.
    sync: Sync,
    hidden: Hidden,
    /// Offset where the data end and the method begins.
    end: u64,
    method: String,
    resumed: u64,
    other_method: Option<String>,
}

/// A thread that syncs the data and then records their count, so that the caller need not wait for the disk. Dropping
/// it waits for the thread.
#[derive(Debug, Default)]
struct Sync {
    thread: Option<JoinHandle<io::Result<()>>>,
    started: Option<Instant>,
    /// Held while somebody moves and uses the file's position, which the thread's handle shares.
    position: Arc<Mutex<()>>,
}

impl Partial {
    /// Starts a file of `header` and `data_len` bytes of data, computed by `method`, that will replace `target`; or
    /// resumes the file that an earlier run left.
    ///
    /// # Errors
    /// If `target` does not name a file, its folder is missing or not writable, or another run is writing the file.
    pub fn open(target: &Path, header: &[u8], data_len: u64, method: &str) -> Result<Self> {
        let hidden = Hidden::open(target, "partial")?;
        let end = header.len() as u64 + data_len;
        let mut partial = Self { hidden, end, method: method.into(), resumed: 0, other_method: None, sync: Sync::default() };
        match partial.left_behind(header) {
            Some((done, by)) if by == method => partial.resumed = done,
            left => {
                partial.other_method = left.filter(|(done, _)| *done > 0).map(|(_, by)| by);
                partial.start(header)?;
            }
        }
        Ok(partial)
    }

    /// Returns the count that [`Partial::count`] last made durable in an earlier run, or 0 for a new file.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Returns the method of an earlier run if it differs from this run's method and the earlier data were therefore
    /// discarded.
    pub fn other_method(&self) -> Option<&str> {
        self.other_method.as_deref()
    }

    /// Returns the count and the method of an earlier run that wanted the same file, or `None` if the file is of
    /// another kind.
    ///
    /// [`Partial::commit`] cuts the trailer off when all data are written, just before it renames the file. A file
    /// without a trailer does not name its method, so this function returns `None` for it.
    fn left_behind(&mut self, header: &[u8]) -> Option<(u64, String)> {
        let length = self.hidden.file.metadata().ok()?.len();
        let method = length.checked_sub(self.end + TRAILER).filter(|method| *method <= MAX_METHOD)?;
        let mut found = vec![0; header.len()];
        self.read_at(0, &mut found).ok().filter(|()| found == header)?;
        let mut rest = vec![0; (method + TRAILER) as usize];
        self.read_at(self.end, &mut rest).ok()?;
        let trailer = rest.split_off(method as usize);
        let number = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("eight bytes"));
        let whole = trailer[..16] == MARK[..] && number(16) == !number(24);
        String::from_utf8(rest).ok().filter(|_| whole).map(|method| (number(16), method))
    }

    fn start(&mut self, header: &[u8]) -> Result<()> {
        let sized = self.hidden.file.set_len(0).and_then(|()| self.hidden.file.set_len(self.trailer() + TRAILER));
        sized.map_err(|e| self.failed(e))?;
        self.write_at(0, header)?;
        self.write_at(self.end, self.method.clone().as_bytes())?;
        self.write_count(0)
    }

    /// Returns the offset where the trailer begins.
    fn trailer(&self) -> u64 {
        self.end + self.method.len() as u64
    }

    fn write_count(&mut self, done: u64) -> Result<()> {
        self.write_at(self.trailer(), &counted(done))
    }

    /// Writes `bytes` at `offset` from the start of the file.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        put(&self.hidden.file, &self.sync.position, offset, bytes).map_err(|e| self.failed(e))
    }

    /// Fills `bytes` with the file's contents at `offset`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let _turn = self.sync.position.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.hidden.file.seek(SeekFrom::Start(offset)).and_then(|_| self.hidden.file.read_exact(bytes));
        read.map_err(|e| self.failed(e))
    }

    /// Records that `done` units are written; the caller chooses the unit. A run after a crash can rely on the count,
    /// because the data reach the disk before the count does. Another thread waits for the disk. While it does, and
    /// within 100 ms after it began, calls record nothing.
    ///
    /// # Errors
    /// If the disk was full or failed at an earlier count, or the system refuses a thread.
    pub fn count(&mut self, done: u64) -> Result<()> {
        if self.sync.is_busy() {
            return Ok(());
        }
        self.sync.wait().map_err(|e| self.failed(e))?;
        let file = self.hidden.file.try_clone().map_err(|e| self.failed(e))?;
        self.sync.start(file, self.trailer(), done).map_err(|e| self.failed(e))
    }

    /// Renames the complete file to its target and replaces any file of that name.
    ///
    /// # Errors
    /// If the disk fails, or the name belongs to something that cannot be replaced.
    pub fn commit(mut self) -> Result<()> {
        self.sync.wait().map_err(|e| self.failed(e))?;
        // The data must reach the disk before the trailer is cut off.
        let file = &self.hidden.file;
        file.sync_all().and_then(|()| file.set_len(self.end)).map_err(|e| self.failed(e))?;
        self.hidden.commit()
    }

    /// Leaves the file for a later run.
    pub fn keep(self) {
        self.hidden.keep();
    }

    /// Creates an error that names the target.
    pub fn failed(&self, problem: impl Into<Problem>) -> Error {
        self.hidden.failed(problem)
    }
}

impl Sync {
    fn is_busy(&self) -> bool {
        let is_early = self.started.is_some_and(|started| started.elapsed() < SYNC_EVERY);
        is_early || self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Syncs what was written to `file` so far, and then writes the count `done` at offset `trailer`.
    fn start(&mut self, file: File, trailer: u64, done: u64) -> io::Result<()> {
        let position = Arc::clone(&self.position);
        let sync = move || file.sync_data().and_then(|()| put(&file, &position, trailer, &counted(done)));
        self.thread = Some(Builder::new().name("meddino sync".to_owned()).spawn(sync)?);
        self.started = Some(Instant::now());
        Ok(())
    }

    /// Waits until the thread has ended.
    fn wait(&mut self) -> io::Result<()> {
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        // A failed sync leaves the count of the sync before, which still holds.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Returns the trailer for a count.
fn counted(done: u64) -> Vec<u8> {
    [&MARK[..], &done.to_le_bytes(), &(!done).to_le_bytes()].concat()
}

/// Writes `bytes` at `offset`, while no other handle uses the shared position.
fn put(mut file: &File, position: &Mutex<()>, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let _turn = position.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const HEADER: &[u8] = b"header: 8 bytes follow\n";
    const METHOD: &str = "by hand";

    /// Returns a temporary folder and the path of the file X in it.
    fn target() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("X");
        (folder, path)
    }

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().to_string_lossy().to_string();
        fs::read_dir(folder).expect("listed").map(name).collect()
    }

    fn open(path: &Path) -> Partial {
        Partial::open(path, HEADER, 8, METHOD).expect("opened")
    }

    #[test]
    fn what_an_earlier_run_left_is_gone_on_with() {
        let (folder, path) = target();
        let mut first = open(&path);
        assert_eq!(first.resumed(), 0);
        first.write_at(HEADER.len() as u64, b"abcd").expect("written");
        first.count(4).expect("counted");
        first.keep();
        assert_eq!(names(folder.path()), [".X.partial"]);

        let mut second = open(&path);
        assert_eq!(second.resumed(), 4);
        second.write_at(HEADER.len() as u64 + 4, b"efgh").expect("written");
        second.commit().expect("renamed");
        assert_eq!(fs::read(&path).expect("read"), [HEADER, b"abcdefgh"].concat());
        assert_eq!(names(folder.path()), ["X"]);
    }

    #[test]
    fn what_was_computed_by_another_method_is_not_gone_on_with() {
        let (folder, path) = target();
        let mut left = open(&path);
        left.count(4).expect("counted");
        left.keep();
        let other = Partial::open(&path, HEADER, 8, "by another hand").expect("opened");
        assert_eq!((other.resumed(), other.other_method()), (0, Some(METHOD)));
        other.keep();
        // The other method had written nothing, so nothing is lost and there is nothing to report.
        let back = open(&path);
        assert_eq!((back.resumed(), back.other_method()), (0, None));
        drop(back);
        // All data are written, but the file no longer names its method.
        fs::write(folder.path().join(".X.partial"), [HEADER, b"abcdefgh"].concat()).expect("written");
        assert_eq!(open(&path).resumed(), 0);
    }

    #[test]
    fn anything_else_is_started_anew() {
        let (folder, path) = target();
        let hidden = folder.path().join(".X.partial");
        let mut left = open(&path);
        left.count(7).expect("counted");
        left.keep();
        let whole = fs::read(&hidden).expect("read");
        let changed = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let (count, mark) = (whole.len() - 16, whole.len() - 32);
        let cut = whole[..whole.len() - 1].to_vec();
        let long = [&whole[..], b"x"].concat();
        for (what, bytes) in [
            ("another header", changed(3)),
            ("another method", changed(mark - 1)),
            ("a torn count", changed(count)),
            ("another mark", changed(mark)),
            ("cut short", cut),
            ("too long", long),
            ("empty", Vec::new()),
        ] {
            fs::write(&hidden, bytes).expect("written");
            let partial = open(&path);
            assert_eq!(partial.resumed(), 0, "{what}");
            partial.keep();
            let zero = fs::read(&hidden).expect("read");
            assert_eq!(zero[count..count + 8], [0; 8], "{what}");
        }
    }

    #[test]
    fn dropped_it_is_gone_and_the_old_file_stays() {
        let (folder, path) = target();
        fs::write(&path, "old").expect("written");
        drop(open(&path));
        assert_eq!(names(folder.path()), ["X"]);
        assert_eq!(fs::read(&path).expect("read"), b"old");
    }

    #[test]
    fn two_runs_do_not_share_a_file() {
        let (_folder, path) = target();
        let first = open(&path);
        let error = Partial::open(&path, HEADER, 8, METHOD).expect_err("locked").to_string();
        assert!(error.contains("is writing it"), "{error}");
        drop(first);
        drop(open(&path));
    }
}
