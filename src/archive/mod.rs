//! Safetensors files. They are read one tensor at a time, and written tensor by tensor or piece by piece. A file is
//! written completely or not at all.
//!
//! Without the feature `files`, only the readers are available, over bytes or anything that implements [`Read`] and
//! [`Seek`].
//!
//! Files are not memory-mapped. Every size that a file claims is checked against the file's length before it is used.

mod dtype;
#[cfg(feature = "files")]
mod file_id;
#[cfg(feature = "files")]
mod hidden;
#[cfg(feature = "files")]
mod identity;
#[cfg(feature = "files")]
mod lent;
#[cfg(feature = "files")]
mod listing;
#[cfg(feature = "files")]
mod new_file;
#[cfg(feature = "files")]
mod partial;
#[cfg(feature = "files")]
mod plain;
#[cfg(feature = "files")]
mod sha256;
#[cfg(feature = "files")]
mod windows_name;
#[cfg(feature = "files")]
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
#[cfg(feature = "files")]
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use safetensors::tensor::Metadata;

use crate::error::Problem;
use crate::tensor::Tensor;

pub use dtype::Dtype;
#[cfg(feature = "files")]
pub use file_id::FileId;
#[cfg(feature = "files")]
pub use hidden::{is_stream, open_own};
#[cfg(feature = "files")]
pub use identity::{identity, identity_of};
#[cfg(feature = "files")]
pub use lent::{LentFile, LentFolder, shown};
#[cfg(feature = "files")]
pub use listing::{Listing, Other, enter, folder_of, unreadable};
#[cfg(feature = "files")]
pub use new_file::NewFile;
#[cfg(feature = "files")]
pub use partial::Partial;
#[cfg(feature = "files")]
pub use plain::{InputFile, check_plain, is_file, is_folder, open_plain};
#[cfg(feature = "files")]
pub use sha256::{sha256, sha256_of_file};
#[cfg(feature = "files")]
pub use writer::ArchiveWriter;

/// The longest header that is read, in bytes. The format allows 100 MB; a vision transformer's header takes less than
/// 0.1 MB.
const MAX_HEADER: u64 = 16 << 20;

/// Shape and element type of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: Dtype,
}

/// The source of an archive's bytes.
trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// An open safetensors file. Its errors do not name the file, because the caller that opened it knows its name
/// and purpose.
pub struct Archive {
    /// Behind a lock, because a read moves the cursor.
    bytes: Mutex<Box<dyn ReadSeek>>,
    header: Metadata,
    tensors: BTreeMap<String, TensorHeader>,
    metadata: BTreeMap<String, String>,
    /// Offset of the tensors' first byte in the file.
    data_start: u64,
}

impl Archive {
    /// Opens `path` and reads its header. Offsets are checked against shapes, types and the file's length.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a complete safetensors file.
    #[cfg(feature = "files")]
    pub fn open(path: &Path) -> Result<Self, Problem> {
        Self::from_reader(open_plain(path)?)
    }

    /// Reads the header of a safetensors file from `bytes`, which hold the whole file from start to end. Offsets are
    /// checked as in `Archive::open`.
    ///
    /// # Errors
    /// If the bytes cannot be read, or are not a complete safetensors file.
    pub fn from_reader(mut bytes: impl Read + Seek + Send + 'static) -> Result<Self, Problem> {
        let length = bytes.seek(SeekFrom::End(0)).and_then(|length| bytes.rewind().map(|()| length))?;
        let mut prefix = [0; 8];
        bytes.read_exact(&mut prefix).map_err(|_| "is no safetensors file: it is shorter than its first field")?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MAX_HEADER || header_len > length - 8 {
            return Err(format!("claims a header of {header_len} bytes in a file of {length}; it is damaged or no safetensors file").into());
        }
        let mut header = vec![0; header_len as usize];
        bytes.read_exact(&mut header).map_err(|e| Problem::from(e).within("its header cannot be read"))?;
        // Parsing the header also checks that offsets follow each other without gaps and fit shapes and types.
        let header: Metadata = serde_json::from_slice(&header).map_err(|e| Problem::from(e).within("its header is damaged"))?;
        let data_start = 8 + header_len;
        let want = (header.data_len() as u64).checked_add(data_start);
        if want != Some(length) {
            let want = want.map_or("more than can be".into(), |n| n.to_string());
            return Err(format!("is {length} bytes long where its header describes {want}; download it again").into());
        }
        let stored = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            (name, TensorHeader { shape: info.shape.clone(), dtype: info.dtype.into() })
        };
        let tensors = header.tensors().into_iter().map(stored).collect();
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Self { bytes: Mutex::new(Box::new(bytes)), header, tensors, metadata, data_start })
    }

    /// Returns shape and type of every tensor, by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorHeader> {
        &self.tensors
    }

    /// Returns the text metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns the values of the tensor `name` as f32.
    ///
    /// # Errors
    /// If the file has no such tensor, the tensor's type is not f64, f32, f16 or bf16, or the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Tensor, Problem> {
        let shape = self.tensors.get(name).ok_or("is not in the file")?.shape.clone();
        let len = shape.iter().product();
        Ok(Tensor::new(shape, self.read_part(name, 0, len)?))
    }

    /// Returns `len` values of the tensor `name` as f32, starting at element `first`.
    ///
    /// # Errors
    /// As [`Archive::read`].
    ///
    /// # Panics
    /// If the tensor has fewer than `first + len` elements.
    pub fn read_part(&self, name: &str, first: usize, len: usize) -> Result<Vec<f32>, Problem> {
        let stored = self.tensors.get(name).ok_or("is not in the file")?;
        let size = stored.dtype.size().ok_or_else(|| format!("its elements are {}; expected f32, f16, bf16 or f64", stored.dtype))?;
        let (from, to) = self.header.info(name).ok_or("is not in the file")?.data_offsets;
        assert!((first + len) * size <= to - from, "{name} ends before element {}", first + len);
        let mut part = vec![0; len * size];
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let start = SeekFrom::Start(self.data_start + (from + first * size) as u64);
        bytes.seek(start).and_then(|_| bytes.read_exact(&mut part))?;
        Ok(stored.dtype.decode(&part)?)
    }

    /// Returns the SHA-256 of all bytes of the file, in lower-case hexadecimal.
    ///
    /// # Errors
    /// If the bytes cannot be read.
    #[cfg(feature = "files")]
    pub fn sha256(&self) -> std::io::Result<String> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.rewind()?;
        sha256::sha256_of(&mut *bytes)
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("tensors", &self.tensors).field("metadata", &self.metadata).finish_non_exhaustive()
    }
}
