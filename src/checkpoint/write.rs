//! Writing a checkpoint: safetensors, one tensor in memory at a time, and never a half-written file under the name that was asked for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype as FileDtype, TensorInfo};

use super::Checkpoint;
use super::dtype::Dtype;
use crate::error::{Error, Result};

/// Writes every parameter of `checkpoint` to `path` as `dtype` (f32, f16 or bf16), under its name, with `metadata` in the header.
///
/// The tensors go through memory one by one. They are written to a temporary file in the same folder, which takes the name `path` when
/// it is whole; an error leaves what stood there before. The same parameters give the same bytes.
///
/// # Errors
/// If a tensor cannot be loaded or has a value beyond the range of `dtype`, or the file cannot be written.
pub fn write_safetensors(checkpoint: &Checkpoint, path: &Path, dtype: Dtype, metadata: &BTreeMap<String, String>) -> Result<()> {
    let fail = |problem: String| Error::output(path.display(), problem);
    if path.is_dir() {
        return Err(fail("is a folder; name a file".into()));
    }
    let header = header(checkpoint, dtype, metadata).map_err(fail)?;
    let io = |e: std::io::Error| fail(format!("cannot be written: {e}"));
    let unfinished = Unfinished::beside(path);
    let mut out = BufWriter::new(File::create_new(&unfinished.0).map_err(io)?);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    out.write_all(&header).map_err(io)?;
    for entry in checkpoint.entries() {
        let tensor = checkpoint.load(&entry.name)?;
        let bytes = dtype.encode(tensor.data()).map_err(|problem| fail(format!("tensor {}: {problem}", entry.name)))?;
        out.write_all(&bytes).map_err(io)?;
    }
    let file = out.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    fs::rename(&unfinished.0, path).map_err(io)
}

/// The JSON header, padded with spaces so that the tensors begin at a multiple of 8 bytes.
fn header(checkpoint: &Checkpoint, dtype: Dtype, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let file_dtype = match dtype {
        Dtype::F32 => FileDtype::F32,
        Dtype::F16 => FileDtype::F16,
        Dtype::Bf16 => FileDtype::BF16,
        other => return Err(format!("weights are written as f32, f16 or bf16, not {other}")),
    };
    let size = dtype.size().unwrap_or_default();
    let mut end = 0;
    let mut header = serde_json::Map::from_iter([("__metadata__".to_string(), serde_json::json!(metadata))]);
    for entry in checkpoint.entries() {
        let start = end;
        end += entry.len() * size;
        let info = TensorInfo { dtype: file_dtype, shape: entry.shape.clone(), data_offsets: (start, end) };
        header.insert(entry.name.clone(), serde_json::to_value(info).map_err(|e| e.to_string())?);
    }
    let mut bytes = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

/// A file that goes away unless it was given its final name.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self(path.with_file_name(format!(".{name}.{}.unfinished", std::process::id())))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
