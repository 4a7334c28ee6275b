//! A network on the CPU.

use super::fold::FoldBackend;
use crate::backbone::Backbone;
use crate::cpu::{self, Layer};
use crate::error::{Error, Result};
use crate::nnunet::Tiling;
use crate::tensor::Tensor;
use crate::vit::decoder::Decoder;
use crate::vit::features::{Features, Range, Request, overflow};

/// An encoder and its decoder.
pub(super) struct CpuFold {
    pub encoder: Backbone,
    pub decoder: Decoder<Tensor, Layer>,
    /// What the decoder takes.
    pub request: Request,
    /// Whether the last block's output goes into the decoder.
    pub takes_last: bool,
    /// The decoder's channels, and its classes.
    pub channels: Vec<usize>,
    pub classes: usize,
    /// Of all folds together, which are loaded at once and run one after another.
    pub parameters: usize,
}

impl CpuFold {
    /// The weighted sums [K, H, W] of a slice.
    pub fn sums<E: From<Error>>(
        &self,
        slice: &Tensor,
        tiling: &Tiling,
        batch: usize,
        check: &mut impl FnMut() -> Result<(), E>,
    ) -> Result<Tensor, E> {
        tiling.sums(slice, self.classes, batch, |tiles| {
            check()?;
            Ok(self.scores(tiles)?)
        })
    }

    /// The scores [B, K, h, w] of tiles [B, 1, h, w].
    fn scores(&self, tiles: &Tensor) -> Result<Tensor> {
        let Features { layers, x_norm, grid, .. } = self.encoder.features(tiles, None, &self.request)?;
        let mut layers: Vec<&Tensor> = layers.iter().map(|(_, x)| x).collect();
        // The last block's output through the final norm is there in any case, and not among the layers of the request.
        if self.takes_last {
            layers.push(&x_norm);
        }
        Ok(cpu::in_pool(|| cpu::decode(&self.decoder, &layers, grid)))
    }
}

impl FoldBackend for CpuFold {
    fn device(&self) -> String {
        self.encoder.device()
    }

    fn warnings(&self) -> &[String] {
        self.encoder.warnings()
    }

    fn overflow(&self) -> Error {
        // The encoder's features are finite, or they had been refused.
        overflow("scores", Range::F32, Some("the decoder"))
    }

    fn bytes(&self, [batch, _, height, width]: [usize; 4], _: [usize; 2]) -> Result<u64> {
        let config = self.encoder.config();
        let (c, tokens) = (config.embed_dim, config.prefix_tokens() + config.grid(height, width)?.patches());
        // As `jobs/memory.rs` has it for features: what serves every block, and the layers that are kept.
        let encoder = tokens * (9 * c + config.ffn_dim + (1 + self.request.layers.len()) * c);
        let scores = 2 * self.classes * height * width;
        Ok(((self.parameters + batch * (encoder + scores + height * width)) * 4 + cpu::decode_bytes(&self.channels)) as u64)
    }
}
