//! How a backend computes.

use std::fmt;

#[cfg(feature = "cpu")]
use crate::cpu;
use crate::error::{Error, Result};
use crate::graph::{Elem, Tier};

/// In what the factors of products are held. Sums, statistics and the residual stream are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32: features as PyTorch's in f32, to the sixth digit.
    #[default]
    F32,
    /// f16, on a GPU: half the memory, and features that differ from those of f32 by up to 3e-3 (relative L2).
    F16,
    /// bf16, on a CPU with AVX512-BF16: half the time, and features that differ from those of f32 by about 1e-2 (relative L2), as by PyTorch's autocast.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// How a backend computes; by default in f32, with the best kernels that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// In what factors are held.
    pub precision: Precision,
    /// How a GPU's kernels are written; `None` for the best tier that the device runs.
    pub tier: Option<Tier>,
}

impl Tuning {
    /// What the CPU computes in.
    #[cfg(feature = "cpu")]
    pub(super) fn on_the_cpu(self) -> Result<cpu::Precision> {
        if self.tier.is_some() {
            return Err(Error::option("tier", "the CPU has one kind of kernels; choose a GPU with `backend` gpu, or leave it out"));
        }
        match self.precision {
            Precision::F32 => Ok(cpu::Precision::F32),
            Precision::F16 => Err(Error::option("precision", "f16 is for GPUs; choose one with `backend` gpu, or take f32 or bf16")),
            Precision::Bf16 => cpu::Bf16::here()
                .map(cpu::Precision::Bf16)
                .ok_or_else(|| Error::option("precision", "bf16 needs a CPU with AVX512-BF16, which this one has not; take f32")),
        }
    }

    /// What a GPU's kernels hand to each other.
    ///
    /// # Errors
    /// If no GPU computes so.
    pub fn elem(self) -> Result<Elem> {
        match self.precision {
            Precision::F32 => Ok(Elem::F32),
            Precision::F16 => Ok(Elem::F16),
            Precision::Bf16 => Err(Error::option("precision", "bf16 is for CPUs; choose it with `backend` cpu, or take f32 or f16")),
        }
    }
}
