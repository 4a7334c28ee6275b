//! PyTorch files, by the `pytorch-reader` crate: it interprets the few calls that rebuild tensors and runs nothing.
//!
//! That crate bounds what a file may claim, but generously (10 GiB a tensor, 100 MiB of pickle, and a deflated archive may hold a
//! thousand times its size). A checkpoint needs none of that room, so the claims are checked here first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use pytorch_reader::{DType as FileDtype, FileFormat, PickleValue, PytorchError, PytorchReader};

use super::container::Container;
use crate::archive::{Dtype, Stored};

/// The longest pickle that is parsed. That of `checkpoint_final.pth` with its training log takes a few MB at most; parsed, a hostile
/// one takes some eighty times its size.
const MAX_PICKLE: u64 = 16 << 20;

/// How much all tensors together may take beyond the file's own length: room for small tensors that share or repeat storage.
const SLACK: u64 = 64 << 20;

/// An open PyTorch file.
pub(super) struct PthFile {
    path: PathBuf,
    reader: PytorchReader,
    tensors: BTreeMap<String, Stored>,
}

impl PthFile {
    /// A zip archive as PyTorch writes it since 1.6.
    pub fn open_zip(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let damaged = |e: zip::result::ZipError| format!("its zip archive is damaged or cut short ({e}); download it again");
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        for i in 0..archive.len() {
            let entry = archive.by_index_raw(i).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?;
            let limit = if name.ends_with(".pkl") { MAX_PICKLE.min(length) } else { length.saturating_mul(4).saturating_add(SLACK) };
            if entry.size() > limit || entry.compressed_size() > length {
                return Err(format!(
                    "its entry {name} claims {} bytes, in a file of {length}; it is damaged or not to be trusted",
                    entry.size()
                ));
            }
        }
        Self::open(path, length)
    }

    /// A pickle, with or without tensors behind it, as PyTorch wrote before 1.6; `length` is the file's.
    pub fn open_pickle(path: &Path, length: u64) -> Result<Self, String> {
        Self::open(path, length)
    }

    fn open(path: &Path, length: u64) -> Result<Self, String> {
        let reader = PytorchReader::new(path).map_err(|e| {
            format!(
                "cannot be read as a PyTorch file: {e}; if it holds more than tensors and plain values, save its weights alone \
                 (Python: torch.save(torch.load(FILE)[\"state_dict\"], \"weights.pth\"))"
            )
        })?;
        let describe = |(name, tensor): (&String, &pytorch_reader::Tensor)| {
            (name.clone(), Stored { shape: tensor.shape().to_vec(), dtype: dtype(tensor.dtype()) })
        };
        let tensors: BTreeMap<_, _> = reader.tensors().iter().map(describe).collect();
        let claimed = reader.tensors().values().fold(0u64, |sum, t| sum.saturating_add(t.byte_len() as u64));
        if claimed > length.saturating_mul(4).saturating_add(SLACK) {
            return Err(format!(
                "its tensors claim {claimed} bytes, in a file of {length}; if it is to be trusted, save it with contiguous tensors"
            ));
        }
        Ok(Self { path: path.to_path_buf(), reader, tensors })
    }

    pub fn container(&self) -> Container {
        if self.reader.metadata().format_type == FileFormat::Zip { Container::Zip } else { Container::Legacy }
    }

    pub fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    /// What stands under a key of the root dictionary, if there is one. The pickle is parsed once more for it, the tensors are not touched.
    ///
    /// # Errors
    /// If the file cannot be read again.
    pub fn top_level(&self, key: &str) -> Result<Option<PickleValue>, String> {
        match PytorchReader::read_pickle_data(&self.path, Some(key)) {
            Ok(value) => Ok(Some(value)),
            Err(PytorchError::KeyNotFound(_) | PytorchError::InvalidFormat(_)) => Ok(None),
            Err(e) => Err(format!("cannot be read again for its {key}: {e}")),
        }
    }

    /// The bytes of `name`, contiguous and row-major whatever its strides are in the file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        self.reader.get(name).ok_or("is not in the file")?.read().map_err(|e| e.to_string())
    }
}

fn dtype(file: FileDtype) -> Dtype {
    match file {
        FileDtype::F64 => Dtype::F64,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        FileDtype::I64 | FileDtype::I32 | FileDtype::I16 | FileDtype::I8 => Dtype::Other("signed integers"),
        FileDtype::U64 | FileDtype::U32 | FileDtype::U16 | FileDtype::U8 => Dtype::Other("unsigned integers"),
        FileDtype::Bool => Dtype::Other("bool"),
    }
}
