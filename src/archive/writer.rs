//! Writing a safetensors file whose tensors need not be in memory together.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype as FileDtype, Metadata, TensorInfo};

use super::{Dtype, NewFile, Stored};
use crate::error::{Error, Result};

/// A safetensors file being written: the header says everything at once, the values follow in any order and in any pieces. It gets its name when it is
/// finished; dropped before that, it leaves nothing behind.
#[derive(Debug)]
pub struct ArchiveWriter {
    file: NewFile,
    regions: Vec<Region>,
}

/// Where one tensor lies.
#[derive(Debug)]
struct Region {
    name: String,
    dtype: Dtype,
    /// First byte in the file.
    start: u64,
}

impl ArchiveWriter {
    /// Starts the file at `path` for `tensors`, which it will hold in this order.
    ///
    /// # Errors
    /// If a type is none that is written, or the file cannot be written there.
    pub fn create(path: &Path, tensors: &[(String, Stored)], metadata: &BTreeMap<String, String>) -> Result<Self> {
        let (header, regions) = layout(tensors, metadata).map_err(|problem| Error::output(path.display(), problem))?;
        let mut file = NewFile::create(path)?;
        file.write_at(0, &header)?;
        Ok(Self { file, regions })
    }

    /// Writes `values` into tensor `index` from its element `first` on, rounded to its type.
    ///
    /// # Errors
    /// If a value is beyond the type's range, or the disk is full or fails.
    pub fn write(&mut self, index: usize, first: usize, values: &[f32]) -> Result<()> {
        let Region { name, dtype, start } = &self.regions[index];
        let bytes = dtype.encode(values).map_err(|problem| self.file.failed(format!("tensor {name}: {problem}")))?;
        self.file.write_at(start + (first * bytes.len() / values.len().max(1)) as u64, &bytes)
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
        regions.push(Region { name: name.clone(), dtype: *dtype, start: start as u64 });
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
