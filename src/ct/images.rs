//! Images that are normalised already: the tensor `image` of a `.safetensors` file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::vit::config::MAX_SIDE;

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// The most channels that an image may claim.
const MAX_CHANNELS: usize = 64;

/// B normalised images [C, H, W], read one at a time from a `.safetensors` file.
#[derive(Debug)]
pub struct Images {
    name: String,
    file: File,
    dtype: Dtype,
    /// [B, C, H, W]
    shape: [usize; 4],
    /// Where the values begin, in bytes.
    start: u64,
}

impl Images {
    /// Opens a file that holds `image` [B, C, H, W] in f32, f16, bf16 or f64. Only the header is read.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or holds no such tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::checked(path).map_err(|problem| Error::input(path.display(), problem))
    }

    fn checked(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let metadata = file.metadata().map_err(|e| e.to_string())?;
        if !metadata.is_file() {
            return Err("not a file".into());
        }
        let (header, start) = read_header(&mut file, metadata.len())?;
        let Some(image) = header.info("image") else {
            let mut names: Vec<_> = header.tensors().into_keys().take(8).collect();
            names.sort();
            return Err(format!("expected a tensor named image [B, C, H, W], found {}", names.join(", ")));
        };
        let &[b, c, h, w] = &image.shape[..] else {
            return Err(format!("image: expected [B, C, H, W], found {:?}", image.shape));
        };
        if b * c * h * w == 0 {
            return Err(format!("image: {:?} is empty", image.shape));
        }
        if c > MAX_CHANNELS || h > MAX_SIDE || w > MAX_SIDE {
            return Err(format!("image: {:?} is beyond {MAX_CHANNELS} channels or {MAX_SIDE} pixels a side", image.shape));
        }
        if !matches!(image.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return Err(format!("image: expected f32, f16, bf16 or f64, normalised, found {:?}; HU go into a .npy file", image.dtype));
        }
        Ok(Self {
            name: path.display().to_string(),
            file,
            dtype: image.dtype,
            shape: [b, c, h, w],
            start: start + image.data_offsets.0 as u64,
        })
    }

    /// The file as the user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// [B, C, H, W]
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Image `index`: [1, C, H, W].
    ///
    /// # Errors
    /// If the file cannot be read, or a value is NaN or infinite.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn read(&mut self, index: usize) -> Result<Tensor> {
        let [b, c, h, w] = self.shape;
        assert!(index < b, "image {index} of {b}");
        let len = c * h * w * self.dtype.bitsize() / 8;
        let mut bytes = vec![0; len];
        let at = self.start + (index * len) as u64;
        self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut bytes)).map_err(|e| Error::input(&self.name, e))?;
        let values = decode(self.dtype, &bytes);
        match values.iter().filter(|v| !v.is_finite()).count() {
            0 => Ok(Tensor::new([1, c, h, w], values)),
            n => Err(Error::input(&self.name, format!("image {index} holds {n} values that are NaN or infinite"))),
        }
    }
}

/// The header, and where the tensors begin; every size is checked against the file's `length`.
fn read_header(file: &mut File, length: u64) -> Result<(Metadata, u64), String> {
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| "not a .safetensors file: it is shorter than its first field")?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size > length - 8 {
        return Err(format!("not a .safetensors file: it claims a header of {size} bytes, and the file has {length}"));
    }
    let mut text = vec![0; size as usize];
    file.read_exact(&mut text).map_err(|e| e.to_string())?;
    let header: Metadata = serde_json::from_slice(&text).map_err(|e| format!("broken .safetensors header: {e}"))?;
    let (promised, found) = (header.data_len() as u64, length - 8 - size);
    if promised != found {
        return Err(format!("its header promises {promised} bytes of tensors, but {found} follow: the file is damaged"));
    }
    Ok((header, 8 + size))
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        other => unreachable!("{other:?} is refused when the file is opened"),
    }
}
