//! Inflates a zlib stream (RFC 1950), or the members of a gzip file (RFC 1952) one after another as if they were one.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::packing::Packing;
use crate::archive::InputFile;

/// The first bytes of every member of a gzip file.
pub(super) const MAGIC: [u8; 2] = [0x1F, 0x8B];

/// Compressed bytes of a file, inflated from their beginning.
#[derive(Debug)]
pub(super) struct Members {
    file: InputFile,
    start: u64,
    packing: Packing,
    /// `None` after the last member.
    member: Option<Member>,
}

#[derive(Debug)]
enum Member {
    Gzip(GzDecoder<BufReader<InputFile>>),
    Zlib(ZlibDecoder<BufReader<InputFile>>),
}

impl Members {
    /// Inflates the bytes of `file` from the offset `start` on, as zlib or as gzip.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn new(mut file: InputFile, start: u64, packing: Packing) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        let input = BufReader::with_capacity(1 << 16, file.try_clone()?);
        let member = if packing == Packing::Zlib { Member::Zlib(ZlibDecoder::new(input)) } else { Member::Gzip(GzDecoder::new(input)) };
        Ok(Self { file, start, packing, member: Some(member) })
    }

    /// Opens the same bytes from their beginning again. This reader must not be used any more, because both share one file
    /// position.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn again(&self) -> io::Result<Self> {
        Self::new(self.file.try_clone()?, self.start, self.packing)
    }

    /// Checks the length and the checksum of the current member, if the member is inflated to its end. Does not read
    /// what follows the member.
    ///
    /// # Errors
    /// If the length or checksum is wrong or missing, or the rest of the member is damaged.
    pub fn check(&mut self) -> io::Result<()> {
        self.member.as_mut().map_or(Ok(0), |member| member.read(&mut [0])).map(drop)
    }

    /// Moves to the next member and skips zero padding before it. Bytes that do not begin a member are not part of the
    /// gzip file, which ends before them.
    fn next(&mut self) -> io::Result<()> {
        let Some(Member::Gzip(member)) = self.member.take() else { return Ok(()) };
        let mut input = member.into_inner();
        let mut begin = [0];
        while input.read(&mut begin)? == 1 {
            if begin[0] == 0 {
                continue;
            }
            let mut second = [0];
            let found = input.read(&mut second)?;
            if [begin[0], second[0]] == MAGIC {
                input.seek_relative(-1 - found as i64)?;
                self.member = Some(Member::Gzip(GzDecoder::new(input)));
            }
            break;
        }
        Ok(())
    }
}

impl Read for Member {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(member) => member.read(into),
            Self::Zlib(member) => member.read(into),
        }
    }
}

impl Read for Members {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            match member.read(into)? {
                0 if !into.is_empty() => self.next()?,
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}
