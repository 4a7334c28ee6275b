//! Downloads the bytes of a file. A download resumes where it was interrupted, never takes more bytes than promised,
//! and is checked before the file gets its name.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ureq::Body;
use ureq::http::header::{CONTENT_RANGE, ETAG};
use ureq::http::{Response, StatusCode};

use super::cache::Folder;
use super::event::{Event, Trouble};
use super::remote::{Described, Remote, text};
use crate::archive::sha256_of_file;
use crate::error::Problem;

/// Number of bytes read and written at once.
const PIECE: usize = 1 << 18;

/// A download of one file, over as many attempts as it takes.
pub struct Transfer<'a> {
    folder: &'a Folder,
    progress: &'a mut dyn FnMut(Event),
    /// Number of bytes that the last attempt left on the disk.
    done: u64,
    /// The ETag with which the storage sent the bytes on the disk. The ETag of another process's download is unknown
    /// and not needed, because the SHA-256 check decides.
    etag: Option<String>,
}

impl<'a> Transfer<'a> {
    pub fn new(folder: &'a Folder, progress: &'a mut dyn FnMut(Event)) -> Self {
        Self { folder, progress, done: 0, etag: None }
    }

    /// Returns the number of bytes on the disk.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Passes `event` to the progress callback.
    pub fn say(&mut self, event: Event) {
        (self.progress)(event);
    }

    /// Makes one attempt: fetches the missing bytes, checks the whole file and gives it its name.
    pub fn run(&mut self, remote: &Remote, described: &Described) -> Result<PathBuf, Trouble> {
        let Described { commit, sha256, size, .. } = described;
        self.folder.prepare()?;
        let _lock = self.folder.lock(sha256, || (self.progress)(Event::Waiting))?;
        let blob = self.folder.blob(sha256);
        // Another process may have fetched the blob while this process waited, or it may be cached from another commit.
        if blob.metadata().is_ok_and(|m| m.len() == *size) {
            return self.folder.link(sha256, commit);
        }
        let partial = blob.with_extension("incomplete");
        let resumed = self.receive(remote, described, &partial)?;
        self.check(&partial, sha256, resumed)?;
        fs::rename(&partial, &blob).map_err(|e| self.folder.cannot_write(e))?;
        self.folder.link(sha256, commit)
    }

    /// Fetches the bytes that `partial` lacks. Returns whether `partial` held some of them before.
    fn receive(&mut self, remote: &Remote, described: &Described, partial: &Path) -> Result<bool, Trouble> {
        let size = described.size;
        let cannot_write = |e: io::Error| self.folder.cannot_write(e);
        let mut file = File::options().create(true).truncate(false).write(true).open(partial).map_err(cannot_write)?;
        let kept = file.metadata().map_err(cannot_write)?.len();
        let mut from = if kept > size { 0 } else { kept };
        if from < size {
            let response = remote.bytes(&described.url, from, self.etag.as_deref())?;
            from = match start(&response, from, size) {
                Ok(start) => start,
                Err(problem) if from == 0 => return Err(Trouble::Lasting(problem.into())),
                Err(problem) => {
                    file.set_len(0).map_err(cannot_write)?;
                    (self.done, self.etag) = (0, None);
                    return Err(Trouble::Passing(format!("{problem}; it is fetched from the start").into()));
                }
            };
            self.etag = text(response.headers(), ETAG.as_str()).filter(|etag| etag.starts_with('"')).map(Into::into);
            self.done = from;
            if kept != from {
                file.set_len(from).map_err(cannot_write)?;
            }
            file.seek(SeekFrom::Start(from)).map_err(cannot_write)?;
            self.copy(response, &mut file, size)?;
        }
        self.done = size;
        file.sync_all().map_err(|e| self.folder.cannot_write(e))?;
        Ok(from > 0)
    }

    /// Copies the response's body into `file`, up to `size` bytes in all. Fewer or more bytes are an error.
    fn copy(&mut self, response: Response<Body>, file: &mut File, size: u64) -> Result<(), Trouble> {
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            self.say(Event::Receiving { done: self.done, size });
            let read = match body.read(&mut piece) {
                Ok(0) if self.done == size => return Ok(()),
                Ok(0) => return Err(Trouble::Passing(format!("the server stopped after {} of {size} bytes", self.done).into())),
                Ok(read) => read,
                Err(e) => {
                    let place = format!("the connection broke after {} of {size} bytes", self.done);
                    return Err(Trouble::Passing(Problem::from(e).within(place)));
                }
            };
            if self.done + read as u64 > size {
                return Err(Trouble::Lasting(format!("the server sends more than the {size} bytes that it promised").into()));
            }
            file.write_all(&piece[..read]).map_err(|e| self.folder.cannot_write(e))?;
            self.done += read as u64;
        }
    }

    /// Checks the SHA-256 of `partial` and removes the file if it differs from `promised`. Bytes of an earlier attempt
    /// may be the cause, so a mismatch after a resume allows a retry.
    fn check(&mut self, partial: &Path, promised: &str, resumed: bool) -> Result<(), Trouble> {
        let found = sha256_of_file(partial).map_err(|e| self.folder.cannot_write(e))?;
        if found == promised {
            return Ok(());
        }
        fs::remove_file(partial).map_err(|e| self.folder.cannot_write(e))?;
        (self.done, self.etag) = (0, None);
        let problem = format!("what came is damaged and was removed: expected the SHA-256 {promised}, found {found}");
        Err(if resumed { Trouble::Passing(problem.into()) } else { Trouble::Lasting(problem.into()) })
    }
}

/// Returns the offset of the response's first byte: `from`, as requested, or 0.
fn start(response: &Response<Body>, from: u64, size: u64) -> Result<u64, String> {
    let status = response.status();
    let range = text(response.headers(), CONTENT_RANGE.as_str());
    let start = match status {
        StatusCode::PARTIAL_CONTENT if range.and_then(content_range) == Some((from, size)) => from,
        StatusCode::OK => 0,
        _ => return Err(format!("asked for the bytes from {from} on of {size}, the server answers {status}, range {range:?}")),
    };
    match response.body().content_length() {
        Some(length) if length != size - start => {
            Err(format!("expected {} bytes from {start} on, as the hub promised, the server announces {length}", size - start))
        }
        _ => Ok(start),
    }
}

/// Parses the first byte and the size of `bytes FIRST-LAST/SIZE`.
fn content_range(range: &str) -> Option<(u64, u64)> {
    let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()?))
}
