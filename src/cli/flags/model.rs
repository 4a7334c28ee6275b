//! The flags that say which model runs, on what, and how it computes.

use std::path::PathBuf;

use clap::ValueEnum;
use meddino::backbone::{self, Choice, Tuning};
use meddino::gpu::Selection;
use meddino::graph::Tier;
use meddino::jobs::ModelChoice;
use meddino::vit::config::RopePrecision;
use meddino::{Error, Result};

/// Which model runs, and on what.
#[derive(clap::Args)]
pub struct Model {
    /// The weights: a .pth or .safetensors file, or seeded:N for untrained ones to try things out (seeded:N:tiny, seeded:N:micro: small)
    /// [default: the released ones, as `meddino download` has them; for bench seeded:0]
    #[arg(short, long, value_name = "FILE|seeded:N")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub compute: Compute,
    /// Arithmetic of the position embedding: auto is what this kind of checkpoint was trained with (bf16 for MedDINOv3, f32 for Meta's)
    #[arg(long, default_value = "auto")]
    pub rope: Rope,
}

/// What a model runs on.
#[derive(clap::Args)]
pub struct Compute {
    /// What to compute on: auto takes a real GPU if there is one, else the CPU
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
    /// Which GPU: a number or a part of a name as `meddino devices` lists them, low-power or high-performance. Implies --backend gpu
    #[arg(long, value_name = "NUMBER|NAME")]
    pub device: Option<Selection>,
    #[command(flatten)]
    pub kernels: Kernels,
}

/// How it is computed.
#[derive(clap::Args)]
pub struct Kernels {
    /// In what the factors of products are held, sums being f32 always: f32; f16, on a GPU (features within 3e-3 of f32's); bf16, on a CPU with
    /// AVX512-BF16 (about 1e-2, as by PyTorch's autocast); or auto, which is f32
    #[arg(long, default_value = "auto")]
    pub precision: Precision,
    /// How the GPU's kernels are written: baseline, direct (for software GPUs), subgroups, cooperative8 or cooperative16 (tensor cores)
    /// [default: the best that the device runs]
    #[arg(long, value_name = "NAME")]
    pub tier: Option<Tier>,
}

impl Kernels {
    /// What the flags mean.
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
    /// What the flags mean.
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
    /// The backend that the flags mean.
    pub fn choice(&self) -> Result<Choice> {
        match (self.backend, &self.device) {
            (Backend::Cpu, Some(_)) => Err(Error::option("--device", "chooses a GPU, but --backend is cpu; leave one of them out")),
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
    /// The precision to use in place of the checkpoint's, if any.
    pub fn precision(self) -> Option<RopePrecision> {
        match self {
            Self::Auto => None,
            Self::Bf16 => Some(RopePrecision::Bf16),
            Self::F32 => Some(RopePrecision::F32),
        }
    }
}
