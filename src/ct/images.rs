//! Normalised images, read from the tensor `image` of a `.safetensors` file.

use std::path::Path;

use crate::archive::Archive;
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;
use crate::vit::config::MAX_SIDE;

/// The most channels that an image may have.
const MAX_CHANNELS: usize = 64;

/// B normalised images [C, H, W], read one at a time from a `.safetensors` file.
#[derive(Debug)]
pub struct Images {
    name: String,
    archive: Archive,
    /// [B, C, H, W]
    shape: [usize; 4],
}

impl Images {
    /// Opens a file with a tensor `image` [B, C, H, W] in f32, f16, bf16 or f64. Reads only the header.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or has no such tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::checked(path).map_err(|problem| Error::input(path.display(), problem))
    }

    fn checked(path: &Path) -> Result<Self, Problem> {
        let archive = Archive::open(path)?;
        let Some(image) = archive.tensors().get("image") else {
            let names: Vec<&str> = archive.tensors().keys().take(8).map(String::as_str).collect();
            return Err(format!("expected a tensor named image [B, C, H, W], found {}", names.join(", ")).into());
        };
        let &[b, c, h, w] = &image.shape[..] else {
            return Err(format!("image: expected [B, C, H, W], found {:?}", image.shape).into());
        };
        if b * c * h * w == 0 {
            return Err(format!("image: {:?} is empty", image.shape).into());
        }
        if c > MAX_CHANNELS || h > MAX_SIDE || w > MAX_SIDE {
            return Err(format!("image: {:?} is beyond {MAX_CHANNELS} channels or {MAX_SIDE} pixels a side", image.shape).into());
        }
        if image.dtype.size().is_none() {
            return Err(format!("image: expected f32, f16, bf16 or f64, normalised, found {}; HU go into a .npy file", image.dtype).into());
        }
        Ok(Self { name: path.display().to_string(), archive, shape: [b, c, h, w] })
    }

    /// Returns the file's path as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the shape [B, C, H, W].
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Reads image `index`: [1, C, H, W].
    ///
    /// # Errors
    /// If the file cannot be read, or a value is NaN or infinite.
    ///
    /// # Panics
    /// If `index` is not below B.
    pub fn read(&self, index: usize) -> Result<Tensor> {
        let [b, c, h, w] = self.shape;
        assert!(index < b, "image {index} of {b}");
        let len = c * h * w;
        let values = self.archive.read_part("image", index * len, len).map_err(|e| Error::input(&self.name, e))?;
        match values.iter().filter(|v| !v.is_finite()).count() {
            0 => Ok(Tensor::new([1, c, h, w], values)),
            n => Err(Error::input(&self.name, format!("image {index} holds {n} values that are NaN or infinite"))),
        }
    }
}
