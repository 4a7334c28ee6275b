//! Writes every tensor as a NumPy array into one zip archive, which `numpy.load` reads without pickle.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::npy::{described, write_header};
use crate::archive::{ArchiveWriter, NewFile};
use crate::error::{Error, Result};

/// Copies every tensor of `from` into the `.npz` file at `path`, and adds `metadata` as an array of one text in JSON:
/// `json.loads(file["metadata"].item())`.
///
/// Entries are stored without compression, as `numpy.savez` does, because features hardly compress.
pub(super) fn write(path: &Path, from: &mut ArchiveWriter, metadata: &BTreeMap<String, String>) -> Result<()> {
    let fail = |e: io::Error| Error::output(path.display(), e);
    let mut file = NewFile::create(path)?;
    let mut zip = ZipWriter::new(Steady::new(BufWriter::new(file.stream())));
    // The time of day is left out, so that equal features make equal files.
    let options = SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Stored).large_file(true);
    let tensors: Vec<_> = from.tensors().map(|(name, stored)| (name.to_string(), described(stored))).collect();
    for (index, (name, (descr, shape))) in tensors.into_iter().enumerate() {
        zip.start_file(format!("{name}.npy"), options).map_err(|e| fail(e.into()))?;
        write_header(&mut zip, descr, &shape).map_err(fail)?;
        from.stream(index, |bytes| zip.write_all(bytes).map_err(fail))?;
    }
    let text = serde_json::to_string(metadata).map_err(|e| Error::output(path.display(), e))?;
    zip.start_file("metadata.npy", options).map_err(|e| fail(e.into()))?;
    // NumPy stores texts as UTF-32 of a fixed length.
    write_header(&mut zip, &format!("<U{}", text.chars().count()), &[]).map_err(fail)?;
    let wide: Vec<u8> = text.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    zip.write_all(&wide).map_err(fail)?;
    zip.finish().map_err(|e| fail(e.into()))?.end().map_err(fail)?;
    file.commit()
}

/// A writer that reports its first error only in [`Steady::end`]. After an error, `ZipWriter` continues to write while
/// it is dropped, and would panic at a second error.
struct Steady<W> {
    inner: W,
    /// Offset of the next byte, as the caller sees it.
    at: u64,
    end: u64,
    error: Option<io::Error>,
}

impl<W: Write + Seek> Steady<W> {
    /// Wraps `inner`, whose cursor must be at the start.
    fn new(inner: W) -> Self {
        Self { inner, at: 0, end: 0, error: None }
    }

    /// Flushes, and returns the first error.
    fn end(mut self) -> io::Result<()> {
        self.keep(W::flush);
        self.error.map_or(Ok(()), Err)
    }

    /// Does `work`, unless earlier work failed, and keeps its error.
    fn keep(&mut self, work: impl FnOnce(&mut W) -> io::Result<()>) {
        if self.error.is_none() {
            self.error = work(&mut self.inner).err();
        }
    }
}

impl<W: Write + Seek> Write for Steady<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.keep(|inner| inner.write_all(bytes));
        self.at += bytes.len() as u64;
        self.end = self.end.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.keep(W::flush);
        Ok(())
    }
}

impl<W: Write + Seek> Seek for Steady<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        let at = at.ok_or(io::ErrorKind::InvalidInput)?;
        if at != self.at {
            self.keep(|inner| inner.seek(SeekFrom::Start(at)).map(drop));
            self.at = at;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that accepts a given number of bytes and then fails.
    struct Full(io::Cursor<Vec<u8>>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let left = self.1.saturating_sub(self.0.position() as usize).min(bytes.len());
            if left == 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.0.write(&bytes[..left]) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn a_disk_that_is_full_at_any_byte_is_an_error_and_no_panic() {
        let zip = |room: usize| -> io::Result<usize> {
            let mut out = Full(io::Cursor::new(Vec::new()), room);
            let mut zip = ZipWriter::new(Steady::new(&mut out));
            for name in ["a", "b"] {
                zip.start_file(name, SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Stored)).map_err(io::Error::from)?;
                zip.write_all(&[7; 100])?;
            }
            zip.finish().map_err(io::Error::from)?.end()?;
            Ok(out.0.into_inner().len())
        };
        let whole = zip(usize::MAX).expect("room enough");
        for room in 0..whole {
            let error = zip(room).expect_err("too little room");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room} of {whole} bytes");
        }
    }
}
