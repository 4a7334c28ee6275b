//! One fold of a results folder, loaded onto a backend.

#[cfg(feature = "cpu")]
use super::cpu::CpuFold;
use crate::error::{Error, Result};
use crate::gpu::Scorer;
use crate::nnunet::Tiling;
use crate::tensor::{Tensor, TensorView};

/// A fold's network on a GPU or the CPU; encoder and decoder run on the same device.
pub(super) enum Fold {
    #[cfg(feature = "cpu")]
    Cpu(Box<CpuFold>),
    Gpu(Box<Scorer>),
}

/// Facts about a fold on its backend.
pub(super) trait FoldBackend {
    /// Returns a readable name of the device.
    fn device(&self) -> String;
    /// Returns warnings for the user.
    fn warnings(&self) -> &[String];
    /// Returns the error for scores that are not finite.
    fn overflow(&self) -> Error;
    /// Returns the bytes that the weights and tiles [B, 1, h, w] of a slice of `size` [H, W] need.
    fn bytes(&self, tiles: [usize; 4], size: [usize; 2]) -> Result<u64>;
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
    /// run at a time. `check` runs before each batch; its error stops the slice.
    ///
    /// # Errors
    /// If the tiles do not fit the model, the device fails, or `check` returns an error.
    pub async fn sums<E: From<Error>>(
        &self,
        slice: TensorView<'_>,
        tiling: &Tiling,
        batch: usize,
        check: &mut impl FnMut() -> Result<(), E>,
    ) -> Result<Tensor, E> {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu(fold) => fold.sums(slice, tiling, batch, check),
            Self::Gpu(scorer) => super::gpu::sums(scorer, slice, tiling, batch, check).await,
        }
    }
}
