//! The flags of `verify`.

use std::path::PathBuf;

use meddino::ct::Size;
use meddino::gpu::Selection;

use super::model::{Kernels, Rope};

/// Compare the backends with each other and with PyTorch's outputs, layer by layer
///
/// Runs one image on the GPU and on the CPU, and prints the differences after the patch embedding, after each block and
/// at each output. With --golden, also compares both with a file of PyTorch's outputs. The exit code is 1 if any
/// difference exceeds the printed tolerance.
#[derive(clap::Args)]
pub struct Verify {
    /// The scan, as for `features` [default: the image in the golden file if it holds one, else phantom]
    pub input: Option<PathBuf>,
    /// The weights: a .pth or .safetensors file, or seeded:N
    #[arg(short, long, value_name = "FILE|seeded:N", default_value = "seeded:0")]
    pub checkpoint: PathBuf,
    /// Size of the image, as for `features`; the image in a golden file keeps its size
    #[arg(long, default_value = "224")]
    pub size: Size,
    /// A .safetensors file of PyTorch's outputs, as tests/golden/from_original.py writes it
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,
    /// Which GPU, as for `features`; a software GPU is allowed
    #[arg(long, value_name = "NUMBER|NAME")]
    pub device: Option<Selection>,
    /// Arithmetic of the position embedding, as for `features`; auto follows the golden file if it names one
    #[arg(long, default_value = "auto")]
    pub rope: Rope,
    #[command(flatten)]
    pub kernels: Kernels,
}
