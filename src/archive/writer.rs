//! Writing a safetensors file whose tensors need not be in memory together.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype as FileDtype, Metadata, TensorInfo};

use super::Stored;
use super::partial::Partial;
use crate::error::{Error, Result};

/// A safetensors file being written: the header says everything at once, the values follow in any order and in any pieces. It gets its name when it is
/// finished; dropped before that, it leaves nothing behind. A run that was killed is gone on with: see [`Partial`].
#[derive(Debug)]
pub struct ArchiveWriter {
    file: Partial,
    regions: Vec<Region>,
}

/// How many bytes are copied at once.
const PIECE: usize = 1 << 20;

/// Where one tensor lies.
#[derive(Debug)]
struct Region {
    name: String,
    stored: Stored,
    /// First byte in the file.
    start: u64,
    /// Length in bytes.
    len: u64,
}

impl ArchiveWriter {
    /// Starts the file at `path` for `tensors`, which it will hold in this order.
    ///
    /// # Errors
    /// If a type is none that is written, the file cannot be written there, or another run is writing it.
    pub fn create(path: &Path, tensors: &[(String, Stored)], metadata: &BTreeMap<String, String>) -> Result<Self> {
        Self::resume(path, tensors, metadata, "")
    }

    /// As [`ArchiveWriter::create`], or goes on with what an earlier run left of the same by the same `method`: see [`Partial`].
    ///
    /// # Errors
    /// As [`ArchiveWriter::create`].
    pub fn resume(path: &Path, tensors: &[(String, Stored)], metadata: &BTreeMap<String, String>, method: &str) -> Result<Self> {
        let (header, regions) = layout(tensors, metadata).map_err(|problem| Error::output(path.display(), problem))?;
        let data_len = regions.iter().map(|r| r.len).sum();
        Ok(Self { file: Partial::open(path, &header, data_len, method)?, regions })
    }

    /// What [`ArchiveWriter::count`] made durable in an earlier run that was killed; 0 in a new file.
    pub fn resumed(&self) -> u64 {
        self.file.resumed()
    }

    /// The method of an earlier run whose values were discarded, because it is another one.
    pub fn other_method(&self) -> Option<&str> {
        self.file.other_method()
    }

    /// Name, shape and type of each tensor, in the file's order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.regions.iter().map(|r| (r.name.as_str(), &r.stored))
    }

    /// Writes `values` into tensor `index` from its element `first` on, rounded to its type.
    ///
    /// # Errors
    /// If a value is beyond the type's range, or the disk is full or fails.
    pub fn write(&mut self, index: usize, first: usize, values: &[f32]) -> Result<()> {
        let Region { name, stored, start, .. } = &self.regions[index];
        let bytes = stored.dtype.encode(values).map_err(|problem| self.file.failed(format!("tensor {name}: {problem}")))?;
        self.file.write_at(start + (first * bytes.len() / values.len().max(1)) as u64, &bytes)
    }

    /// Notes that `done` of whatever the caller counts is written: what a run after a crash can rely on. Now and then only.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn count(&mut self, done: u64) -> Result<()> {
        self.file.count(done)
    }

    /// Hands the bytes of tensor `index`, as they stand in the file, to `take` piece by piece.
    ///
    /// # Errors
    /// If the disk fails, or what `take` says.
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

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn finish(self) -> Result<()> {
        self.file.commit()
    }
}

/// The file up to its values, and where each tensor's values begin.
fn layout(tensors: &[(String, Stored)], metadata: &BTreeMap<String, String>) -> Result<(Vec<u8>, Vec<Region>), String> {
    let (mut end, mut infos, mut regions) = (0, Vec::new(), Vec::new());
    for (name, Stored { shape, dtype }) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.size().unwrap_or_default();
        infos.push((name.clone(), TensorInfo { dtype: FileDtype::try_from(*dtype)?, shape: shape.clone(), data_offsets: (start, end) }));
        regions.push(Region {
            name: name.clone(),
            stored: Stored { shape: shape.clone(), dtype: *dtype },
            start: start as u64,
            len: (end - start) as u64,
        });
    }
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let header = Metadata::new(Some(metadata), infos).map_err(|e| e.to_string())?;
    // By way of a `Value`, whose keys are sorted: the same values make the same file.
    let mut text = serde_json::to_value(&header).map_err(|e| e.to_string())?.to_string();
    text += &" ".repeat(text.len().next_multiple_of(8) - text.len());
    let header = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    regions.iter_mut().for_each(|r| r.start += header.len() as u64);
    Ok((header, regions))
}
