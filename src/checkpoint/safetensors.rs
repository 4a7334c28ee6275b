//! Safetensors files: a header that is checked whole, then tensors read one by one from where they lie. Nothing is mapped or held.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use safetensors::tensor::{Dtype as FileDtype, Metadata};

use super::container::RawTensor;
use super::dtype::Dtype;

/// The longest header that is read. The format allows 100 MB; a vision transformer's takes under 0.1 MB.
const MAX_HEADER: u64 = 16 << 20;

/// An open safetensors file.
pub(super) struct SafetensorsFile {
    /// Behind a lock because a read moves the file's cursor.
    file: Mutex<File>,
    header: Metadata,
    tensors: BTreeMap<String, RawTensor>,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

impl SafetensorsFile {
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(|e| format!("its first 8 bytes cannot be read: {e}"))?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MAX_HEADER || header_len > length - 8 {
            return Err(format!("claims a header of {header_len} bytes in a file of {length}; it is damaged or no safetensors file"));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact(&mut header).map_err(|e| format!("its header cannot be read: {e}"))?;
        // Reading the header checks that offsets follow each other without gaps and fit shapes and types.
        let header: Metadata = serde_json::from_slice(&header).map_err(|e| format!("its header is damaged: {e}"))?;
        let data_start = 8 + header_len;
        let want = (header.data_len() as u64).checked_add(data_start);
        if want != Some(length) {
            let want = want.map_or("more than can be".into(), |n| n.to_string());
            return Err(format!("is {length} bytes long where its header describes {want}; download it again"));
        }
        let describe = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            (name, RawTensor { shape: info.shape.clone(), dtype: dtype(info.dtype) })
        };
        let tensors = header.tensors().into_iter().map(describe).collect();
        Ok(Self { file: Mutex::new(file), header, tensors, data_start })
    }

    pub fn tensors(&self) -> &BTreeMap<String, RawTensor> {
        &self.tensors
    }

    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// The bytes of `name`. Their extent was checked against the file's length when it was opened.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let (from, to) = self.header.info(name).ok_or("is not in the file")?.data_offsets;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = vec![0; to - from];
        file.seek(SeekFrom::Start(self.data_start + from as u64)).map_err(|e| e.to_string())?;
        file.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }
}

fn dtype(file: FileDtype) -> Dtype {
    match file {
        FileDtype::F64 => Dtype::F64,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        FileDtype::BOOL => Dtype::Other("bool"),
        FileDtype::I8 | FileDtype::I16 | FileDtype::I32 | FileDtype::I64 => Dtype::Other("signed integers"),
        FileDtype::U8 | FileDtype::U16 | FileDtype::U32 | FileDtype::U64 => Dtype::Other("unsigned integers"),
        FileDtype::C64 => Dtype::Other("complex numbers"),
        _ => Dtype::Other("floats of 8 bits or fewer"),
    }
}
