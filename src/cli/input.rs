//! What the features are computed of: the slices of a scan, or images that are normalised already.

use std::ops::Range;
use std::path::{Path, PathBuf};

use meddino::ct::{Images, Size, Volume, Window, prepare, resize};
use meddino::output::Preprocessing;
use meddino::{Result, Tensor};

/// An open input.
pub enum Input {
    /// HU, to be normalised.
    Scan(Volume),
    /// Taken as they are.
    Images(Images),
}

impl Input {
    /// Opens the word `phantom`, a `.safetensors` of images, or a scan.
    pub fn open(name: &str) -> Result<Self> {
        let is_safetensors = Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        match name {
            "phantom" => Ok(Self::Scan(Volume::phantom())),
            _ if is_safetensors => Ok(Self::Images(Images::open(name)?)),
            _ => Ok(Self::Scan(Volume::open(name)?)),
        }
    }

    /// [S, C, H, W]: how many images it gives at `size`, and of what shape.
    pub fn shape(&self, size: Size) -> [usize; 4] {
        let [s, c, h, w] = match self {
            Self::Scan(scan) => [scan.slices(), 1, scan.height(), scan.width()],
            Self::Images(images) => images.shape(),
        };
        let (h, w) = size.of(h, w);
        [s, c, h, w]
    }

    /// Image `index` at `size`: [1, C, H, W], normalised.
    fn image(&mut self, index: usize, size: Size) -> Result<Tensor> {
        let [_, _, h, w] = self.shape(size);
        match self {
            Self::Scan(scan) => Ok(prepare(&scan.read_slice(index)?, &Window::DEMO, size)),
            Self::Images(images) => Ok(resize(&images.read(index)?, h, w)),
        }
    }

    /// Several images at `size`: [B, C, H, W], normalised.
    pub fn batch(&mut self, indices: Range<usize>, size: Size) -> Result<Tensor> {
        let [_, c, h, w] = self.shape(size);
        let count = indices.len();
        let mut values = Vec::with_capacity(count * c * h * w);
        for index in indices {
            values.extend_from_slice(self.image(index, size)?.data());
        }
        Ok(Tensor::new([count, c, h, w], values))
    }

    /// How its values become the image's.
    pub fn preprocessing(&self) -> Preprocessing {
        match self {
            Self::Scan(_) => Preprocessing::Window(Window::DEMO),
            Self::Images(_) => Preprocessing::Done,
        }
    }
}

/// Where the features of the input called `name` go if nothing else is said: `NAME.features.safetensors`, in the current folder.
pub fn default_output(name: &str) -> PathBuf {
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("{stem}.features.safetensors"))
}
