//! Reads the bytes of a file, which may be compressed with gzip or zlib, at any offset.
//!
//! A plain file is read at the offset that is asked for. A compressed file is inflated forwards while offsets grow. The
//! first request that goes back inflates the whole file, once, into an unnamed temporary file. In every case, memory
//! holds what is asked for and no more.

mod members;
mod packing;

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use self::members::{MAGIC, Members};
pub(super) use self::packing::Packing;
use super::spool::Spool;
use crate::archive::InputFile;
use crate::error::Problem;

/// How many bytes to inflate at a time when the caller does not ask for the bytes themselves.
const CHUNK: u64 = 1 << 20;
/// The most bytes that one byte of deflate can become. Two bits encode at most 258 bytes, and the headers lower the
/// ratio a little.
const MAX_RATIO: u64 = 1032;

/// The bytes of an open file, from some offset on. Offsets count from there, and in inflated bytes if the bytes are
/// compressed.
#[derive(Debug)]
pub(super) struct Bytes {
    storage: Storage,
    packing: Packing,
    /// The offset in the file, as stored, where the bytes begin.
    start: u64,
    /// The length of the file as stored.
    length: u64,
    /// The offset where the needed bytes end.
    end: u64,
}

#[derive(Debug)]
enum Storage {
    Plain(InputFile),
    /// Compressed bytes that are inflated forwards. `at` is the offset of the next byte that `inflate` gives.
    Packed {
        inflate: Box<Members>,
        at: u64,
    },
    /// Compressed bytes, inflated into a temporary file.
    Spooled(Spool),
}

impl Bytes {
    /// Opens a whole file. Its first bytes, not its name, tell whether it is compressed with gzip.
    ///
    /// # Errors
    /// If the file does not exist or cannot be read.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let mut file = crate::archive::open_plain(path)?;
        let packing = if begins_as_gzip(&mut file, 0)? { Packing::Gzip } else { Packing::Plain };
        Self::new(file, 0, packing)
    }

    /// Takes the bytes of `file` from the offset `start` on, which are packed as `packing` says.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn new(mut file: InputFile, start: u64, packing: Packing) -> Result<Self, Problem> {
        let length = file.length()?;
        // The system refuses offsets that no file can have; `promise` tells that the file is too short.
        file.seek(SeekFrom::Start(start.min(length)))?;
        let storage = match packing {
            Packing::Plain => Storage::Plain(file),
            _ => Storage::inflating(Members::new(file, start, packing))?,
        };
        Ok(Self { storage, packing, start, length, end: u64::MAX })
    }

    /// Returns the next `len` bytes, or fewer if the file is shorter. The first call begins with the first byte, and
    /// all calls precede [`Bytes::promise`].
    ///
    /// # Errors
    /// If the file cannot be read or inflated. A file that ends early is not an error.
    pub fn next(&mut self, len: usize) -> Result<Vec<u8>, Problem> {
        let mut bytes = vec![0; len];
        let (found, error) = match &mut self.storage {
            Storage::Plain(file) => fill(file, &mut bytes),
            Storage::Packed { inflate, at } => {
                let (found, error) = fill(inflate, &mut bytes);
                *at += found as u64;
                (found, error)
            }
            Storage::Spooled(_) => unreachable!("headers are read before voxels"),
        };
        bytes.truncate(found);
        match error {
            Some(e) if e.kind() != io::ErrorKind::UnexpectedEof => Err(Problem::from(e).within(self.packing.damaged())),
            _ => Ok(bytes),
        }
    }

    /// Declares that only the `len` bytes at `offset` will be read, and checks that the file can hold them. Returns how
    /// many more bytes follow, as far as is known.
    ///
    /// # Errors
    /// If the file is too short for them: a plain file by its length, a compressed file if no compression could make it
    /// so short.
    pub fn promise(&mut self, offset: u64, len: u64) -> Result<u64, String> {
        let begin = self.start.saturating_add(offset);
        let too_short =
            |found: String| format!("its header promises {len} bytes of voxels at byte {begin}, but {found}: the file is damaged");
        self.end = offset.checked_add(len).ok_or_else(|| too_short("no file is so long".into()))?;
        let stored = self.length.saturating_sub(self.start);
        match self.storage {
            Storage::Plain(_) => stored.checked_sub(self.end).ok_or_else(|| too_short(format!("it ends at byte {}", self.length))),
            _ if self.end / MAX_RATIO > stored => Err(too_short(format!("{stored} bytes of {} cannot hold so much", self.packing.name()))),
            _ => Ok(0),
        }
    }

    /// Fills `bytes` from offset `at`.
    ///
    /// # Errors
    /// If the file cannot be read or ends too early, if its gzip data are damaged, or if there is no room for a
    /// temporary file.
    pub fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), Problem> {
        if matches!(self.storage, Storage::Packed { at: passed, .. } if at < passed) {
            self.spool()?;
        }
        match &mut self.storage {
            Storage::Plain(file) => file.seek(SeekFrom::Start(self.start + at)).and_then(|_| file.read_exact(bytes)).map_err(Problem::from),
            Storage::Packed { .. } => {
                self.skip_to(at)?;
                self.inflate(bytes)
            }
            Storage::Spooled(spool) => spool.read_at(at, bytes),
        }
    }

    /// Inflates all needed bytes, from the beginning, into a temporary file.
    fn spool(&mut self) -> Result<(), Problem> {
        let Storage::Packed { inflate, .. } = &self.storage else { return Ok(()) };
        self.storage = Storage::inflating(inflate.again())?;
        let mut spool = Spool::new(self.end)?;
        let mut chunk = vec![0; CHUNK as usize];
        for at in (0..self.end).step_by(CHUNK as usize) {
            let part = &mut chunk[..CHUNK.min(self.end - at) as usize];
            self.inflate(part)?;
            spool.write_at(at, part)?;
        }
        self.storage = Storage::Spooled(spool);
        Ok(())
    }

    fn skip_to(&mut self, to: u64) -> Result<(), Problem> {
        let mut chunk = vec![0; CHUNK as usize];
        while let Storage::Packed { at, .. } = self.storage
            && at < to
        {
            self.inflate(&mut chunk[..CHUNK.min(to - at) as usize])?;
        }
        Ok(())
    }

    /// Inflates the next bytes. Once the last needed byte is inflated, verifies the checksum of its
    /// member.
    fn inflate(&mut self, bytes: &mut [u8]) -> Result<(), Problem> {
        let Storage::Packed { inflate, at } = &mut self.storage else { unreachable!("bytes that are inflated forwards") };
        let name = self.packing.name();
        let (found, error) = fill(inflate, bytes);
        *at += found as u64;
        if found < bytes.len() {
            return Err(match error.filter(|e| e.kind() != io::ErrorKind::UnexpectedEof) {
                Some(e) => Problem::from(e).within(format_args!("its {name} data are damaged after {at} inflated bytes")),
                None => {
                    format!("its {name} data end after {at} inflated bytes of {}: the file is damaged or was cut short", self.end).into()
                }
            });
        }
        if *at == self.end {
            inflate.check().map_err(|e| Problem::from(e).within(self.packing.damaged()))?;
        }
        Ok(())
    }
}

/// Returns whether the bytes of `file` at the offset `start` begin as gzip.
pub(super) fn begins_as_gzip(file: &mut InputFile, start: u64) -> io::Result<bool> {
    let mut magic = [0; 2];
    file.seek(SeekFrom::Start(start))?;
    let (found, error) = fill(file, &mut magic);
    error.map_or(Ok(found == 2 && magic == MAGIC), Err)
}

impl Storage {
    fn inflating(members: io::Result<Members>) -> io::Result<Self> {
        Ok(Self::Packed { inflate: Box::new(members?), at: 0 })
    }
}

/// Fills `bytes`, and returns how many were filled before the end or an error.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while filled < bytes.len() {
        match from.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Some(e)),
        }
    }
    (filled, None)
}
