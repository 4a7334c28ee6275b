//! An unnamed temporary file, for a scan that is read in a different order than it is stored in.

use crate::count::product;
use crate::error::Problem;
#[cfg(all(feature = "files", not(target_arch = "wasm32")))]
use std::fs::File;
#[cfg(not(all(feature = "files", not(target_arch = "wasm32"))))]
use std::io::Cursor;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The storage of the bytes: a file, or memory in a browser and in a build without the feature `files`.
#[cfg(all(feature = "files", not(target_arch = "wasm32")))]
type Store = File;
#[cfg(not(all(feature = "files", not(target_arch = "wasm32"))))]
type Store = Cursor<Vec<u8>>;

/// Returns the bytes of f32 values of `shape`.
pub(super) fn bytes_of(shape: [usize; 3]) -> u64 {
    product(&shape).saturating_mul(4)
}

/// An unnamed temporary file, which is deleted when this value is dropped. Errors name the folder, the space needed,
/// and the variable that selects another folder.
#[derive(Debug)]
pub(super) struct Spool {
    store: Store,
    /// The total size of the data in bytes, for the errors.
    needed: u64,
}

impl Spool {
    /// Creates a file for `needed` bytes.
    ///
    /// # Errors
    /// If no file can be created in the temporary folder.
    pub fn new(needed: u64) -> Result<Self, Problem> {
        let store = store(needed).map_err(|e| trouble(needed, e))?;
        Ok(Self { store, needed })
    }

    /// Writes `bytes` at offset `at`.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), Problem> {
        self.store.seek(SeekFrom::Start(at)).and_then(|_| self.store.write_all(bytes)).map_err(|e| trouble(self.needed, e))
    }

    /// Fills `bytes` with the data at offset `at`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), Problem> {
        self.store.seek(SeekFrom::Start(at)).and_then(|_| self.store.read_exact(bytes)).map_err(|e| trouble(self.needed, e))
    }
}

#[cfg(all(feature = "files", not(target_arch = "wasm32")))]
fn store(_: u64) -> io::Result<Store> {
    tempfile::tempfile()
}

#[cfg(not(all(feature = "files", not(target_arch = "wasm32"))))]
fn store(needed: u64) -> io::Result<Store> {
    let mut bytes = Vec::new();
    // Memory that is missing is an error here; while the bytes are written, it would end the program.
    bytes.try_reserve_exact(usize::try_from(needed).unwrap_or(usize::MAX)).map_err(io::Error::other)?;
    Ok(Cursor::new(bytes))
}

#[cfg(all(feature = "files", not(target_arch = "wasm32")))]
fn trouble(needed: u64, error: io::Error) -> Problem {
    let (folder, mib) = (std::env::temp_dir(), needed.div_ceil(1 << 20));
    let text =
        format!("a temporary file of {mib} MiB in {} failed: {error}; make room there, or name another folder in TMPDIR", folder.display());
    Problem::caused_by(text, error)
}

#[cfg(not(all(feature = "files", not(target_arch = "wasm32"))))]
fn trouble(needed: u64, error: io::Error) -> Problem {
    let text = format!("{} MiB of memory for the turned scan failed: {error}", needed.div_ceil(1 << 20));
    Problem::caused_by(text, error)
}
