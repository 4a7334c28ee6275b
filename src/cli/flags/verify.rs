//! The flags of `verify`.

use std::path::PathBuf;

use meddino::ct::Size;
use meddino::gpu::Selection;

use super::model::{Kernels, Rope};

/// Compare the backends with each other, and with PyTorch's outputs, tap by tap
///
/// Runs one image on the GPU and on the CPU and prints, for the patch embedding, each block and each output, how far they are apart. With
/// --golden both are compared with a file of PyTorch's outputs too. Exit code 1 if any tap is beyond the tolerance that is printed.
#[derive(clap::Args)]
pub struct Verify {
    /// What to look at, as for `features` [default: the golden's image if it holds one, else phantom]
    pub input: Option<PathBuf>,
    /// The weights: a .pth or .safetensors file, or seeded:N
    #[arg(short, long, value_name = "FILE|seeded:N", default_value = "seeded:0")]
    pub checkpoint: PathBuf,
    /// Size of the image, as for `features`; a golden's own image keeps its size
    #[arg(long, default_value = "224")]
    pub size: Size,
    /// A .safetensors file of PyTorch's outputs, as tests/golden/from_original.py makes it
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,
    /// Which GPU, as for `features`; a software one will do
    #[arg(long, value_name = "NUMBER|NAME")]
    pub device: Option<Selection>,
    /// Arithmetic of the position embedding, as for `features`; a golden that names its own is followed
    #[arg(long, default_value = "auto")]
    pub rope: Rope,
    #[command(flatten)]
    pub kernels: Kernels,
}
