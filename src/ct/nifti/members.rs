//! Inflates the members of a gzip file (RFC 1952) one after another, as if they were one.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::GzDecoder;

/// The first bytes of every member.
pub(super) const MAGIC: [u8; 2] = [0x1F, 0x8B];

/// A gzip file that is read from its beginning.
#[derive(Debug)]
pub(super) struct Members {
    file: File,
    /// `None` after the last member.
    member: Option<GzDecoder<BufReader<File>>>,
}

impl Members {
    /// # Errors
    /// If the file cannot be read.
    pub fn new(mut file: File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let input = BufReader::with_capacity(1 << 16, file.try_clone()?);
        Ok(Self { file, member: Some(GzDecoder::new(input)) })
    }

    /// Opens the same file from its beginning again. This reader must not be used any more, because both share one file
    /// position.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn again(&self) -> io::Result<Self> {
        Self::new(self.file.try_clone()?)
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
        let Some(mut input) = self.member.take().map(GzDecoder::into_inner) else { return Ok(()) };
        let mut begin = [0];
        while input.read(&mut begin)? == 1 {
            if begin[0] == 0 {
                continue;
            }
            let mut second = [0];
            let found = input.read(&mut second)?;
            if [begin[0], second[0]] == MAGIC {
                input.seek_relative(-1 - found as i64)?;
                self.member = Some(GzDecoder::new(input));
            }
            break;
        }
        Ok(())
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
