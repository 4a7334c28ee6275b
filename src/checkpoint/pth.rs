//! Reads PyTorch files with the `pytorch-reader` crate, which interprets the few calls that rebuild tensors and
//! executes no code.
//!
//! That crate limits what a file may claim, but generously: 10 GiB a tensor, 100 MiB of pickle, and a deflated archive
//! may expand to a thousand times its size. A checkpoint needs far less, so the [claimed sizes](super::claims) are checked
//! first.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use pytorch_reader::{DType as FileDtype, FileFormat, PickleValue, PytorchError, PytorchReader};
use tempfile::{NamedTempFile, TempPath};

use super::claims;
use super::container::Container;
use super::kind::Kind;
use crate::archive::{Dtype, TensorHeader, sha256_of_file};
use crate::error::Problem;

/// An open PyTorch file.
pub(super) struct PthFile {
    path: PathBuf,
    reader: PytorchReader,
    tensors: BTreeMap<String, TensorHeader>,
    /// The temporary file at `path`, if the bytes did not come from a file.
    #[expect(dead_code, reason = "removes the file when it is dropped")]
    temporary: Option<TempPath>,
}

impl PthFile {
    /// Opens the file at `path`, which is of this `kind`.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, Problem> {
        let length = std::fs::metadata(path)?.len();
        if kind == Kind::Zip {
            claims::check_zip(BufReader::new(File::open(path)?))?;
        }
        Self::read_headers(path, length)
    }

    /// Opens the PyTorch file that `reader` holds. The bytes are copied into a temporary file, because `pytorch-reader`
    /// reads tensors only from files.
    pub fn from_reader(mut reader: impl Read + Seek, kind: Kind) -> Result<Self, Problem> {
        let fail = |e: io::Error| {
            let text =
                format!("cannot be copied into a temporary file in {}: {e}; name another folder in TMPDIR", env::temp_dir().display());
            Problem::caused_by(text, e)
        };
        let mut file = NamedTempFile::new().map_err(fail)?;
        io::copy(&mut reader, &mut file).map_err(fail)?;
        let path = file.into_temp_path();
        let opened = Self::open(&path, kind)?;
        Ok(Self { temporary: Some(path), ..opened })
    }

    /// Returns the SHA-256 of the whole file.
    pub fn sha256(&self) -> io::Result<String> {
        sha256_of_file(&self.path)
    }

    fn read_headers(path: &Path, length: u64) -> Result<Self, Problem> {
        let reader = PytorchReader::new(path).map_err(|e| {
            let text = format!(
                "cannot be read as a PyTorch file: {e}; if it holds more than tensors and plain values, save its weights alone \
                 (Python: torch.save(torch.load(FILE)[\"state_dict\"], \"weights.pth\"))"
            );
            Problem::caused_by(text, e)
        })?;
        let describe = |(name, tensor): (&String, &pytorch_reader::Tensor)| {
            (name.clone(), TensorHeader { shape: tensor.shape().to_vec(), dtype: dtype(tensor.dtype()) })
        };
        let tensors: BTreeMap<_, _> = reader.tensors().iter().map(describe).collect();
        let claimed = reader.tensors().values().fold(0u64, |sum, t| sum.saturating_add(t.byte_len() as u64));
        claims::check_tensors(claimed, length)?;
        Ok(Self { path: path.to_path_buf(), reader, tensors, temporary: None })
    }

    pub fn container(&self) -> Container {
        if self.reader.metadata().format_type == FileFormat::Zip { Container::Zip } else { Container::Legacy }
    }

    pub fn tensors(&self) -> &BTreeMap<String, TensorHeader> {
        &self.tensors
    }

    /// Returns the value under a key of the root dictionary, if there is one. This parses the pickle again, but does
    /// not read the tensors.
    ///
    /// # Errors
    /// If the file cannot be read again.
    pub fn top_level(&self, key: &str) -> Result<Option<PickleValue>, Problem> {
        match PytorchReader::read_pickle_data(&self.path, Some(key)) {
            Ok(value) => Ok(Some(value)),
            Err(PytorchError::KeyNotFound(_) | PytorchError::InvalidFormat(_)) => Ok(None),
            Err(e) => Err(Problem::caused_by(format!("cannot be read again for its {key}: {e}"), e)),
        }
    }

    /// Reads the bytes of tensor `name`, contiguous and row-major whatever its strides in the file are.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Problem> {
        self.reader.get(name).ok_or("is not in the file")?.read().map_err(|e| Problem::caused_by(e.to_string(), e))
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
