//! Writes a checkpoint as safetensors, with one tensor in memory at a time.

use std::collections::BTreeMap;
use std::path::Path;

use super::Checkpoint;
use crate::archive::{ArchiveWriter, Dtype, TensorHeader};
use crate::error::Result;

/// Writes every parameter of `checkpoint` to `path` as `dtype` (f32, f16 or bf16), under its name, with `metadata` in
/// the header.
///
/// Only one tensor is in memory at a time. The file gets its name once it is complete, so an error leaves an existing
/// file at `path` unchanged. `check` is called before each tensor, and its error stops the write.
///
/// # Errors
/// If a tensor cannot be loaded or has a value beyond the range of `dtype`, if the file cannot be written, or if
/// `check` returns an error.
pub fn write_safetensors(
    checkpoint: &Checkpoint,
    path: &Path,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let stored = |entry: &super::Entry| (entry.name.clone(), TensorHeader { shape: entry.shape.clone(), dtype });
    let tensors: Vec<_> = checkpoint.entries().iter().map(stored).collect();
    let mut file = ArchiveWriter::create(path, &tensors, metadata)?;
    for (i, entry) in checkpoint.entries().iter().enumerate() {
        check()?;
        let tensor = checkpoint.load(&entry.name)?;
        file.write(i, 0, tensor.data())?;
    }
    file.finish()
}
