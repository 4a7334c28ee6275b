//! A segmentation network on a GPU.

use super::backend::FoldBackend;
use crate::error::{Error, Result};
use crate::gpu::Scorer;
use crate::nnunet::Tiling;
use crate::tensor::{Tensor, TensorView};
use crate::vit::features::{Check, overflow};

impl FoldBackend for Scorer {
    fn device(&self) -> String {
        self.context().name()
    }

    fn warnings(&self) -> &[String] {
        self.context().warnings()
    }

    fn overflow(&self) -> Error {
        overflow("scores", self.context().limits().into(), None)
    }

    fn bytes(&self, tiles: [usize; 4], size: [usize; 2]) -> Result<u64> {
        self.bytes(&tiles, size).map(|bytes| bytes.total() + bytes.outputs)
    }
}

/// Returns the weighted sums [K, H, W] of a slice's scores. The sums stay on the device until all tiles are added.
pub(super) async fn sums(scorer: &Scorer, slice: TensorView<'_>, tiling: &Tiling, batch: usize, check: Check<'_>) -> Result<Tensor> {
    let (size, [rows, columns]) = ([slice.shape()[0], slice.shape()[1]], tiling.tile());
    let passes = tiling.passes(size);
    // All batches have the same size, because the sums belong to one prepared pass.
    let batch = (1..=batch.min(passes.len())).rev().find(|batch| passes.len().is_multiple_of(*batch)).unwrap_or(1);
    let sums = scorer.slice_async(size, &[batch, 1, rows, columns], tiling.weights()).await?;
    for passes in passes.chunks(batch) {
        check()?;
        let places: Vec<_> = passes.iter().map(|pass| (pass.corner, pass.mirrored)).collect();
        sums.add_async(&tiling.cut(slice, passes), &places).await?;
    }
    sums.finish_async().await
}
