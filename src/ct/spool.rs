//! A temporary file without a name, for a scan that is read in another order than the one it is stored in.

#[cfg(feature = "files")]
use std::fs::File;
#[cfg(not(feature = "files"))]
use std::io::Cursor;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Where the bytes are: on disk, or in memory in a build without the feature `files`.
#[cfg(feature = "files")]
type Store = File;
#[cfg(not(feature = "files"))]
type Store = Cursor<Vec<u8>>;

/// Bytes on disk that vanish with this value. Its errors name the folder, the space needed and the variable that
/// chooses another folder.
#[derive(Debug)]
pub(super) struct Spool {
    store: Store,
    /// What will be written in all, for the errors.
    needed: u64,
}

impl Spool {
    /// A file that will take `needed` bytes.
    ///
    /// # Errors
    /// If the temporary folder takes no file.
    pub fn new(needed: u64) -> Result<Self, String> {
        let store = store().map_err(|e| trouble(needed, &e))?;
        Ok(Self { store, needed })
    }

    /// Puts `bytes` at offset `at`.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), String> {
        self.store.seek(SeekFrom::Start(at)).and_then(|_| self.store.write_all(bytes)).map_err(|e| trouble(self.needed, &e))
    }

    /// Fills `bytes` from offset `at`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.store.seek(SeekFrom::Start(at)).and_then(|_| self.store.read_exact(bytes)).map_err(|e| trouble(self.needed, &e))
    }
}

#[cfg(feature = "files")]
fn store() -> io::Result<Store> {
    tempfile::tempfile()
}

#[cfg(not(feature = "files"))]
#[expect(clippy::unnecessary_wraps, reason = "a temporary file may fail")]
fn store() -> io::Result<Store> {
    Ok(Cursor::new(Vec::new()))
}

#[cfg(feature = "files")]
fn trouble(needed: u64, error: &io::Error) -> String {
    let (folder, mib) = (std::env::temp_dir(), needed.div_ceil(1 << 20));
    format!("a temporary file of {mib} MiB in {} failed: {error}; make room there, or name another folder in TMPDIR", folder.display())
}

#[cfg(not(feature = "files"))]
fn trouble(needed: u64, error: &io::Error) -> String {
    format!("{} MiB of memory for the turned scan failed: {error}", needed.div_ceil(1 << 20))
}
