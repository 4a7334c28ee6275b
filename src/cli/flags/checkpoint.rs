//! The flags of `inspect` and `convert`.

use std::path::PathBuf;

use clap::ValueEnum;
use meddino::checkpoint::Dtype;

/// Describe a checkpoint: layout, sizes, number of parameters, types, and which tensors are ignored
///
/// Reads names, shapes and types, but not the weights.
#[derive(clap::Args)]
pub struct Inspect {
    /// A .pth or .safetensors file, or seeded:N
    pub checkpoint: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Convert a checkpoint of any known layout to .safetensors with MedDINOv3's tensor names
///
/// The metadata store the model's configuration, so the file loads as the same model. Prints the file's path on stdout.
#[derive(clap::Args)]
pub struct Convert {
    /// A .pth or .safetensors file, or seeded:N
    pub checkpoint: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "OUT.safetensors", required_unless_present = "shards")]
    pub output: Option<PathBuf>,
    /// Write shards of at most 16 MiB into this folder instead, with an index that states each one's SHA-256
    ///
    /// A page in a browser loads such a model from a URL. The folder must be empty or new. Prints the index's path on
    /// stdout.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "overwrite"])]
    pub shards: Option<PathBuf>,
    /// Replace any existing output
    ///
    /// Without this flag, meddino replaces a file only if meddino wrote the file from the same input and nobody has
    /// changed the file since. Inputs are never replaced.
    #[arg(long)]
    pub overwrite: bool,
    /// Data type of the stored weights
    #[arg(long, default_value = "f32")]
    pub dtype: WeightsDtype,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum WeightsDtype {
    F32,
    F16,
    Bf16,
}

impl From<WeightsDtype> for Dtype {
    fn from(stored: WeightsDtype) -> Self {
        match stored {
            WeightsDtype::F32 => Self::F32,
            WeightsDtype::F16 => Self::F16,
            WeightsDtype::Bf16 => Self::Bf16,
        }
    }
}
