//! The flags that choose the model, its backend, and the backend's arithmetic and kernels.

use std::path::PathBuf;

use clap::ValueEnum;
use meddino::backbone::{self, Choice, Tuning};
use meddino::gpu::Selection;
use meddino::graph::Tier;
use meddino::jobs::ModelChoice;
use meddino::vit::config::RopePrecision;
use meddino::{Error, Result};

/// The model and its backend.
#[derive(clap::Args)]
pub struct Model {
    /// The weights: a .pth or .safetensors file, or seeded:N [default: the released checkpoint; for bench seeded:0]
    ///
    /// The released checkpoint is downloaded if needed, as by `meddino download`. seeded:N gives untrained weights for
    /// trying things out; seeded:N:tiny and seeded:N:micro are small models.
    #[arg(short, long, value_name = "FILE|seeded:N")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub compute: Compute,
    /// Arithmetic of the position embedding
    ///
    /// auto is the arithmetic that this kind of checkpoint was trained with: bf16 for MedDINOv3, f32 for Meta's.
    #[arg(long, default_value = "auto")]
    pub rope: Rope,
}

/// The backend and its tuning.
#[derive(clap::Args)]
pub struct Compute {
    /// Where to compute; auto takes the best GPU that works, else the CPU
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
    /// Which GPU; implies --backend gpu
    ///
    /// Give a number or part of a name from `meddino devices`, low-power, or high-performance.
    #[arg(long, value_name = "NUMBER|NAME")]
    pub device: Option<Selection>,
    #[command(flatten)]
    pub kernels: Kernels,
}

/// The arithmetic and the kernels.
#[derive(clap::Args)]
pub struct Kernels {
    /// Data type of the factors in matrix products; auto is f32
    ///
    /// Sums are always f32. f16 needs a GPU; its features are within 3e-3 of f32's. bf16 needs a CPU with AVX512-BF16;
    /// its features are within about 1e-2 of f32's, as with PyTorch's autocast.
    #[arg(long, default_value = "auto")]
    pub precision: Precision,
    /// Kind of GPU kernels [default: the fastest kind that the device supports]
    ///
    /// baseline, direct (for software GPUs), subgroups, cooperative8 or cooperative16 (tensor cores).
    #[arg(long, value_name = "NAME")]
    pub tier: Option<Tier>,
}

impl Kernels {
    /// Returns the tuning that the flags describe.
    pub fn tuning(&self) -> Tuning {
        let precision = match self.precision {
            Precision::Auto | Precision::F32 => backbone::Precision::F32,
            Precision::F16 => backbone::Precision::F16,
            Precision::Bf16 => backbone::Precision::Bf16,
        };
        Tuning { precision, tier: self.tier }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Precision {
    Auto,
    F32,
    F16,
    Bf16,
}

impl Model {
    /// Returns the model that the flags choose.
    pub fn choice(&self) -> Result<ModelChoice> {
        Ok(ModelChoice {
            checkpoint: self.checkpoint.clone(),
            rope: self.rope.precision(),
            backend: self.compute.choice()?,
            tuning: self.compute.kernels.tuning(),
        })
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Backend {
    Auto,
    Gpu,
    Cpu,
}

impl Compute {
    /// Returns the backend that the flags choose.
    pub fn choice(&self) -> Result<Choice> {
        match (self.backend, &self.device) {
            (Backend::Cpu, Some(_)) => Err(Error::option("--device", "chooses a GPU, but --backend is cpu; leave out one of them")),
            (Backend::Cpu, None) => Ok(Choice::Cpu),
            (Backend::Auto, None) => Ok(Choice::Auto),
            (_, device) => Ok(Choice::Gpu(device.clone().unwrap_or_default())),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Rope {
    Auto,
    Bf16,
    F32,
}

impl Rope {
    /// Returns the precision that replaces the checkpoint's own, if the flag sets one.
    pub fn precision(self) -> Option<RopePrecision> {
        match self {
            Self::Auto => None,
            Self::Bf16 => Some(RopePrecision::Bf16),
            Self::F32 => Some(RopePrecision::F32),
        }
    }
}
