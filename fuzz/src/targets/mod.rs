//! The readers, each as a function of bytes, and the limits that they must keep to.

mod checkpoint;
mod dicom;
mod files;
mod json;
mod metaimage;
mod nifti;
mod npy;
mod nrrd;
mod safetensors;
mod text;
mod tiles;
mod volume;

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::memory::peak_of;

/// A reader: its name and its limits.
pub struct Target {
    /// The name of its folders under `seeds` and `regressions`.
    pub name: &'static str,
    /// Writes the bytes as one or more files and reads them. Returns whether they were accepted. Panics if the values
    /// read make no sense.
    read: fn(&Desk, &[u8]) -> bool,
    /// The allowed bytes of memory for each byte of file.
    per_byte: usize,
    /// The allowed bytes of memory in addition.
    fixed: usize,
}

const MIB: usize = 1 << 20;

/// The most bytes that one byte of gzip or deflate can become.
const INFLATED: usize = 1032;

/// Every reader.
///
/// A stored voxel of one byte becomes one of eight bytes (DICOM) while reading and one of four in the result. JSON
/// takes the most memory for `[0,0,0,...]`: 32 bytes for two bytes of text, and as many again while a list grows.
pub const TARGETS: &[Target] = &[
    Target { name: "nifti", read: nifti::plain, per_byte: 16, fixed: 4 * MIB },
    Target { name: "nifti_gz", read: nifti::gzip, per_byte: 16 * INFLATED, fixed: 4 * MIB },
    Target { name: "nifti_pair", read: nifti::pair, per_byte: 16, fixed: 4 * MIB },
    // A header of short fields takes some dozens of bytes a byte.
    Target { name: "nrrd", read: nrrd::read, per_byte: 16 * INFLATED, fixed: 4 * MIB },
    Target { name: "metaimage", read: metaimage::read, per_byte: 16 * INFLATED, fixed: 4 * MIB },
    // A deflated file inflates, and a compressed picture of up to 4096 x 4096 pixels may be of any length.
    Target { name: "dicom", read: dicom::file, per_byte: 32 * INFLATED, fixed: 768 * MIB },
    Target { name: "dicom_folder", read: dicom::folder, per_byte: 32 * INFLATED, fixed: 768 * MIB },
    Target { name: "npy", read: npy::read, per_byte: 16, fixed: MIB },
    Target { name: "images", read: safetensors::images, per_byte: 128, fixed: MIB },
    Target { name: "features", read: safetensors::features, per_byte: 128, fixed: MIB },
    Target { name: "basis", read: safetensors::basis, per_byte: 128, fixed: MIB },
    Target { name: "safetensors", read: checkpoint::safetensors, per_byte: 256, fixed: MIB },
    // Small tensors may share a storage, see `SLACK` in checkpoint/pth.rs.
    Target { name: "pth_zip", read: checkpoint::zip, per_byte: 256, fixed: 160 * MIB },
    Target { name: "pth_legacy", read: checkpoint::legacy, per_byte: 256, fixed: 160 * MIB },
    Target { name: "plans", read: json::plans, per_byte: 128, fixed: MIB },
    Target { name: "dataset", read: json::dataset, per_byte: 128, fixed: MIB },
    Target { name: "tiles", read: tiles::read, per_byte: 128, fixed: 4 * MIB },
    Target { name: "text", read: text::read, per_byte: 128, fixed: MIB },
];

/// The longest time that a reader may take. Readers take milliseconds; the rest allows for busy machines.
pub const LONGEST: Duration = Duration::from_secs(10);

impl Target {
    /// The reader called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Gives the reader these bytes. Returns whether it accepted them.
    ///
    /// # Errors
    /// If it panics, takes longer than [`LONGEST`], takes more memory than its limits allow for the files' length, or
    /// reads values that make no sense.
    pub fn hold(&self, desk: &Desk, bytes: &[u8]) -> Result<bool, String> {
        desk.clear();
        let begin = Instant::now();
        // The files are about as long as the bytes, or shorter where the target compresses them. The exact limit is
        // checked below.
        let approximate_limit = self.limit(bytes.len() as u64);
        let (end, peak) = peak_of(approximate_limit + 64 * MIB, || catch_unwind(AssertUnwindSafe(|| (self.read)(desk, bytes))));
        let took = begin.elapsed();
        let understood = end.map_err(|panic| format!("{}: {}", self.name, message(&*panic)))?;
        let limit = self.limit(desk.length().max(1));
        if peak > limit {
            return Err(format!("{}: {peak} bytes of memory, where {limit} are the most", self.name));
        }
        if took > LONGEST {
            return Err(format!("{}: took {took:?}, where {LONGEST:?} are the most", self.name));
        }
        Ok(understood)
    }

    fn limit(&self, length: u64) -> usize {
        self.fixed.saturating_add(self.per_byte.saturating_mul(length as usize))
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked").to_string()
}

/// A temporary folder for the files of one run after another, under `TMPDIR`, which should be in memory.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// Creates an empty folder.
    ///
    /// # Panics
    /// If there is no room for a folder.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the files") }
    }

    /// The path of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and creates its folders.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        if let Err(e) = fs::write(&path, bytes) {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}: {e}", path.display());
            fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder was made");
            fs::write(&path, bytes).expect("written");
        }
        path
    }

    /// Removes every file of the last run, but not the folders.
    fn clear(&self) {
        for path in files(self.folder.path()) {
            fs::remove_file(path).expect("removed");
        }
    }

    /// The bytes of all files together.
    fn length(&self) -> u64 {
        files(self.folder.path()).iter().map(|path| fs::metadata(path).map_or(0, |about| about.len())).sum()
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
