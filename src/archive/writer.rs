//! Writes a safetensors file whose tensors need not all be in memory at once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype as FileDtype, Metadata, TensorInfo};

use super::TensorHeader;
use super::partial::Partial;
use crate::count::values_in;
use crate::error::{Error, Result};

/// A safetensors file being written. The header is written first and in full; the values follow in any order and in
/// pieces of any size. The file gets its name when it is finished; dropping it before that removes it. A later run
/// resumes the file of a killed run: see [`Partial`].
#[derive(Debug)]
pub struct ArchiveWriter {
    file: Partial,
    regions: Vec<Region>,
}

/// Number of bytes copied at once.
const PIECE: usize = 1 << 20;

/// The byte range of one tensor in the file.
#[derive(Debug)]
struct Region {
    name: String,
    stored: TensorHeader,
    /// Offset of the tensor's first byte in the file.
    start: u64,
    /// Length in bytes.
    len: u64,
}

impl ArchiveWriter {
    /// Starts the file at `path` for `tensors`, which the file will hold in this order.
    ///
    /// # Errors
    /// If a type is not f32, f16 or bf16, the file cannot be written there, or another run is writing it.
    pub fn create(path: &Path, tensors: &[(String, TensorHeader)], metadata: &BTreeMap<String, String>) -> Result<Self> {
        Self::resume(path, tensors, metadata, "")
    }

    /// Starts the file as [`ArchiveWriter::create`] does, or resumes the file that an earlier run left with the same
    /// header, length and `method`: see [`Partial`].
    ///
    /// # Errors
    /// As [`ArchiveWriter::create`].
    pub fn resume(path: &Path, tensors: &[(String, TensorHeader)], metadata: &BTreeMap<String, String>, method: &str) -> Result<Self> {
        let (header, regions) = layout(tensors, metadata).map_err(|problem| Error::output(path.display(), problem))?;
        let data_len = regions.iter().map(|r| r.len).sum();
        Ok(Self { file: Partial::open(path, &header, data_len, method)?, regions })
    }

    /// Returns the count that [`ArchiveWriter::count`] made durable in an earlier run that was killed, or 0 for a new
    /// file.
    pub fn resumed(&self) -> u64 {
        self.file.resumed()
    }

    /// Returns the method of an earlier run if it differs from this run's method and the earlier values were therefore
    /// discarded.
    pub fn other_method(&self) -> Option<&str> {
        self.file.other_method()
    }

    /// Returns name, shape and type of each tensor, in the file's order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorHeader)> {
        self.regions.iter().map(|r| (r.name.as_str(), &r.stored))
    }

    /// Writes `values` into tensor `index`, starting at element `first`, rounded to the tensor's type.
    ///
    /// # Errors
    /// If a value is beyond the type's range, or the disk is full or fails.
    pub fn write(&mut self, index: usize, first: usize, values: &[f32]) -> Result<()> {
        let Region { name, stored, start, .. } = &self.regions[index];
        let size = stored.dtype.size().unwrap_or_default() as u64;
        let bytes = stored.dtype.encode(values).map_err(|problem| self.file.failed(format!("tensor {name}: {problem}")))?;
        self.file.write_at(start + first as u64 * size, &bytes)
    }

    /// Records that `done` units are written, so that a run after a crash can rely on it; the caller chooses the unit.
    /// The disk is waited for in the background, so not every count is recorded.
    ///
    /// # Errors
    /// If the disk was full or failed at an earlier count.
    pub fn count(&mut self, done: u64) -> Result<()> {
        self.file.count(done)
    }

    /// Passes the bytes of tensor `index`, as stored in the file, to `take` piece by piece.
    ///
    /// # Errors
    /// If the disk fails, or `take` fails.
    pub fn stream(&mut self, index: usize, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Region { start, len, .. } = self.regions[index];
        let mut buffer = vec![0; PIECE.min(len as usize)];
        for at in (0..len).step_by(PIECE) {
            let piece = &mut buffer[..PIECE.min((len - at) as usize)];
            self.file.read_at(start + at, piece)?;
            take(piece)?;
        }
        Ok(())
    }

    /// Leaves the unfinished file for a later run.
    pub fn keep(self) {
        self.file.keep();
    }

    /// Renames the complete file to its target.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn finish(self) -> Result<()> {
        self.file.commit()
    }
}

/// Returns the bytes of the file before its values, and the region of each tensor.
fn layout(tensors: &[(String, TensorHeader)], metadata: &BTreeMap<String, String>) -> Result<(Vec<u8>, Vec<Region>), String> {
    let (mut end, mut infos, mut regions) = (0, Vec::new(), Vec::new());
    for (name, TensorHeader { shape, dtype }) in tensors {
        let start = end;
        let bytes = values_in(shape).and_then(|values| values.checked_mul(dtype.size().unwrap_or_default()));
        let counted = bytes.and_then(|bytes| bytes.checked_add(end));
        end = counted.ok_or_else(|| format!("{name}: {shape:?} values take more bytes than this machine can count"))?;
        infos.push((name.clone(), TensorInfo { dtype: FileDtype::try_from(*dtype)?, shape: shape.clone(), data_offsets: (start, end) }));
        regions.push(Region {
            name: name.clone(),
            stored: TensorHeader { shape: shape.clone(), dtype: *dtype },
            start: start as u64,
            len: (end - start) as u64,
        });
    }
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let header = Metadata::new(Some(metadata), infos).map_err(|e| e.to_string())?;
    // The header goes through a `Value`, whose keys are sorted, so that the same values make the same file.
    let mut text = serde_json::to_value(&header).map_err(|e| e.to_string())?.to_string();
    text += &" ".repeat(text.len().next_multiple_of(8) - text.len());
    let header = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    regions.iter_mut().for_each(|r| r.start += header.len() as u64);
    Ok((header, regions))
}
