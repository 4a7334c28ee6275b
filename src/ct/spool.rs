//! An unnamed file in the system's temporary folder, for a scan that must be read in another order than it is stored in.

use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes on disk that vanish with this value. Its errors name the folder, the space needed and the variable that chooses another folder.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    /// What will be written in all, for the errors.
    needed: u64,
}

impl Spool {
    /// A file that will take `needed` bytes.
    ///
    /// # Errors
    /// If the temporary folder takes no file.
    pub fn new(needed: u64) -> Result<Self, String> {
        let file = tempfile::tempfile().map_err(|e| trouble(needed, &e))?;
        Ok(Self { file, needed })
    }

    /// Puts `bytes` at offset `at`.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), String> {
        self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes)).map_err(|e| trouble(self.needed, &e))
    }

    /// Fills `bytes` from offset `at`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(bytes)).map_err(|e| trouble(self.needed, &e))
    }
}

fn trouble(needed: u64, error: &io::Error) -> String {
    let (folder, mib) = (env::temp_dir(), needed.div_ceil(1 << 20));
    format!("a temporary file of {mib} MiB in {} failed: {error}; make room there, or name another folder in TMPDIR", folder.display())
}
