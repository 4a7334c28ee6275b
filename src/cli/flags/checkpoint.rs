//! The flags of `inspect` and `convert`.

use std::path::PathBuf;

use clap::ValueEnum;
use meddino::checkpoint::Dtype;

/// Say what a checkpoint holds: layout, sizes, number of parameters, types, and what is ignored
///
/// Names, shapes and types are read; the weights are not.
#[derive(clap::Args)]
pub struct Inspect {
    /// A .pth or .safetensors file, or seeded:N
    pub checkpoint: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Write a checkpoint of any known layout as .safetensors, under the names of MedDINOv3
///
/// The model's configuration goes into the metadata, so that the result is the same model. The file's path is printed on stdout.
#[derive(clap::Args)]
pub struct Convert {
    /// A .pth or .safetensors file, or seeded:N
    pub checkpoint: PathBuf,
    /// Where the result goes
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Also replace files that meddino did not write, that were changed since, or that it made of another scan.
    /// Inputs are never replaced
    #[arg(long)]
    pub overwrite: bool,
    /// Type of the stored weights
    #[arg(long, default_value = "f32")]
    pub dtype: Stored,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

impl From<Stored> for Dtype {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Self::F32,
            Stored::F16 => Self::F16,
            Stored::Bf16 => Self::Bf16,
        }
    }
}
