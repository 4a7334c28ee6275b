//! One network of a results folder on a backend.

#[cfg(feature = "cpu")]
use super::cpu::CpuFold;
use crate::error::{Error, Result};
use crate::gpu::Scorer;
use crate::nnunet::Tiling;
use crate::tensor::Tensor;

/// A network on a GPU or the CPU, whole.
pub(super) enum Fold {
    #[cfg(feature = "cpu")]
    Cpu(Box<CpuFold>),
    Gpu(Box<Scorer>),
}

/// What is known of a network on its backend.
pub(super) trait FoldBackend {
    /// For people.
    fn device(&self) -> String;
    /// What a user should know and may not expect.
    fn warnings(&self) -> &[String];
    /// What is said of scores that are not finite.
    fn overflow(&self) -> Error;
    /// Bytes that tiles [B, 1, h, w] of a slice of `size` [H, W] need, with the weights.
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

    /// The weighted sums [K, H, W] of a slice [H, W] over all tiles, at most `batch` of them at a time, before each of which `check` may stop it.
    ///
    /// # Errors
    /// If the tiles do not fit the model, the device fails, or `check` says so.
    pub async fn sums<E: From<Error>>(
        &self,
        slice: &Tensor,
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
