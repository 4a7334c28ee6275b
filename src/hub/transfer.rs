//! The bytes of a file, from the network to the disk: resumed where they were cut, never more than promised, checked before they get a name.

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

/// Bytes read and written at once.
const PIECE: usize = 1 << 18;

/// A file on its way, over as many attempts as it takes.
pub struct Transfer<'a> {
    folder: &'a Folder,
    progress: &'a mut dyn FnMut(Event),
    /// Bytes that the last attempt left on the disk.
    done: u64,
    /// The ETag under which the storage sent what is on the disk. One that another process was given is not known, and need not be: the
    /// SHA-256 decides.
    etag: Option<String>,
}

impl<'a> Transfer<'a> {
    pub fn new(folder: &'a Folder, progress: &'a mut dyn FnMut(Event)) -> Self {
        Self { folder, progress, done: 0, etag: None }
    }

    /// Bytes on the disk.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Tells whoever listens.
    pub fn say(&mut self, event: Event) {
        (self.progress)(event);
    }

    /// One attempt: what is missing is fetched, the whole is checked and gets its name.
    pub fn run(&mut self, remote: &Remote, described: &Described) -> Result<PathBuf, Trouble> {
        let Described { commit, sha256, size, .. } = described;
        self.folder.prepare()?;
        let _lock = self.folder.lock(sha256, || (self.progress)(Event::Waiting))?;
        let blob = self.folder.blob(sha256);
        // It may have come while this process waited, or long ago under another commit.
        if blob.metadata().is_ok_and(|m| m.len() == *size) {
            return self.folder.link(sha256, commit);
        }
        let partial = blob.with_extension("incomplete");
        let resumed = self.receive(remote, described, &partial)?;
        self.check(&partial, sha256, resumed)?;
        fs::rename(&partial, &blob).map_err(|e| self.folder.cannot_write(&e))?;
        self.folder.link(sha256, commit)
    }

    /// Fetches what `partial` lacks. Whether some of it was there before.
    fn receive(&mut self, remote: &Remote, described: &Described, partial: &Path) -> Result<bool, Trouble> {
        let size = described.size;
        let cannot_write = |e: io::Error| self.folder.cannot_write(&e);
        let mut file = File::options().create(true).truncate(false).write(true).open(partial).map_err(cannot_write)?;
        let kept = file.metadata().map_err(cannot_write)?.len();
        let mut from = if kept > size { 0 } else { kept };
        if from < size {
            let response = remote.bytes(&described.url, from, self.etag.as_deref())?;
            from = match start(&response, from, size) {
                Ok(start) => start,
                Err(problem) if from == 0 => return Err(Trouble::Lasting(problem)),
                Err(problem) => {
                    file.set_len(0).map_err(cannot_write)?;
                    (self.done, self.etag) = (0, None);
                    return Err(Trouble::Passing(format!("{problem}; it is fetched from the start")));
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
        file.sync_all().map_err(|e| self.folder.cannot_write(&e))?;
        Ok(from > 0)
    }

    /// From the answer's body into `file`, up to `size` bytes in all; fewer or more are an error.
    fn copy(&mut self, response: Response<Body>, file: &mut File, size: u64) -> Result<(), Trouble> {
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            self.say(Event::Receiving { done: self.done, size });
            let read = match body.read(&mut piece) {
                Ok(0) if self.done == size => return Ok(()),
                Ok(0) => return Err(Trouble::Passing(format!("the server stopped after {} of {size} bytes", self.done))),
                Ok(read) => read,
                Err(e) => return Err(Trouble::Passing(format!("the connection broke after {} of {size} bytes: {e}", self.done))),
            };
            if self.done + read as u64 > size {
                return Err(Trouble::Lasting(format!("the server sends more than the {size} bytes that it promised")));
            }
            file.write_all(&piece[..read]).map_err(|e| self.folder.cannot_write(&e))?;
            self.done += read as u64;
        }
    }

    /// The bytes are what the hub promised, or they go. Those of an earlier attempt may be at fault, so what was resumed is tried anew.
    fn check(&mut self, partial: &Path, promised: &str, resumed: bool) -> Result<(), Trouble> {
        let found = sha256_of_file(partial).map_err(|e| self.folder.cannot_write(&e))?;
        if found == promised {
            return Ok(());
        }
        fs::remove_file(partial).map_err(|e| self.folder.cannot_write(&e))?;
        (self.done, self.etag) = (0, None);
        let problem = format!("what came is damaged and was removed: expected the SHA-256 {promised}, found {found}");
        Err(if resumed { Trouble::Passing(problem) } else { Trouble::Lasting(problem) })
    }
}

/// Where the answer's bytes belong: at `from`, as was asked for, or at the start.
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

/// The first byte and the size in `bytes FIRST-LAST/SIZE`.
fn content_range(range: &str) -> Option<(u64, u64)> {
    let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()?))
}
