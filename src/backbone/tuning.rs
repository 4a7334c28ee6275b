//! The precision and the kernel tier that a backend computes with.

use std::fmt;

use crate::advice::CPU;
#[cfg(feature = "cpu")]
use crate::advice::PRECISIONS;
#[cfg(feature = "cpu")]
use crate::cpu;
use crate::error::{Error, Result};
use crate::graph::{Elem, Tier};

/// The number format of the factors of matrix products. Sums, statistics and the residual stream are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32: features agree with PyTorch's in f32 to the sixth digit.
    #[default]
    F32,
    /// f16, on a GPU: half the memory, and features within 3e-3 (relative L2) of those in f32.
    F16,
    /// bf16, on a CPU with AVX512-BF16: half the time, and features that differ from those in f32 by about 1e-2
    /// (relative L2), as they do under PyTorch's autocast.
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

/// The precision and the kernel tier of a backend. The default is f32 with the best tier that the device runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// The number format of the factors of matrix products.
    pub precision: Precision,
    /// The tier of a GPU's kernels; `None` for the best tier that the device runs.
    pub tier: Option<Tier>,
}

impl Tuning {
    /// Returns the CPU's precision.
    ///
    /// # Errors
    /// If a tier is set, the CPU does not support the precision, or `MEDDINO_CPU` names no instruction set of this CPU.
    #[cfg(feature = "cpu")]
    pub(super) fn on_the_cpu(self) -> Result<cpu::FactorType> {
        if self.tier.is_some() {
            return Err(Error::option("tier", "the CPU's kernels have no tiers; choose a GPU with `backend` gpu, or leave `tier` out"));
        }
        cpu::InstructionSet::chosen()?;
        match self.precision {
            Precision::F32 => Ok(cpu::FactorType::F32),
            Precision::F16 => {
                Err(Error::option("precision", format!("f16 needs a GPU; choose one with `backend` gpu, or take {PRECISIONS}")))
            }
            Precision::Bf16 => cpu::Bf16::here()
                .map(cpu::FactorType::Bf16)
                .ok_or_else(|| Error::option("precision", "bf16 needs a CPU with AVX512-BF16, and this CPU does not have it; take f32")),
        }
    }

    /// Returns the element type of the tensors that a GPU's kernels pass to each other.
    ///
    /// # Errors
    /// If the precision is bf16, which no GPU backend supports.
    pub fn elem(self) -> Result<Elem> {
        match self.precision {
            Precision::F32 => Ok(Elem::F32),
            Precision::F16 => Ok(Elem::F16),
            Precision::Bf16 => Err(Error::option("precision", format!("bf16 needs the CPU: use {CPU}, or take f32 or f16"))),
        }
    }
}
