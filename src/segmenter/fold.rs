//! One fold of a results folder, loaded onto a backend.

use super::backend::FoldBackend;
#[cfg(feature = "cpu")]
use super::cpu::CpuFold;
use crate::error::Result;
use crate::gpu::Scorer;
use crate::nnunet::Tiling;
use crate::tensor::{Tensor, TensorView};
use crate::vit::features::Check;

/// A fold's network on a GPU or the CPU; encoder and decoder run on the same device.
pub(super) enum Fold {
    #[cfg(feature = "cpu")]
    Cpu(Box<CpuFold>),
    Gpu(Box<Scorer>),
}

impl Fold {
    pub fn backend(&self) -> &dyn FoldBackend {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu(fold) => &**fold,
            Self::Gpu(scorer) => &**scorer,
        }
    }

    /// Returns the weighted sums [K, H, W] of the scores of a slice [H, W] over all its tiles. At most `batch` tiles
    /// run at a time. `check` runs before each batch, and on the CPU before each block of the encoder; its error stops
    /// the slice.
    ///
    /// # Errors
    /// If the tiles do not fit the model, the device fails, or `check` returns an error.
    pub async fn sums(&self, slice: TensorView<'_>, tiling: &Tiling, batch: usize, check: Check<'_>) -> Result<Tensor> {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu(fold) => fold.sums(slice, tiling, batch, check),
            Self::Gpu(scorer) => super::gpu::sums(scorer, slice, tiling, batch, check).await,
        }
    }
}
