//! A segmentation network on the CPU.

use super::backend::FoldBackend;
use crate::backbone::Backbone;
use crate::count::product;
use crate::cpu::{self, Layer};
use crate::error::{Error, Result};
use crate::nnunet::Tiling;
use crate::tensor::{Tensor, TensorView};
use crate::vit::decoder::Decoder;
use crate::vit::features::{Check, Features, Range, Request, overflow};

/// A network's encoder and decoder on the CPU.
pub(super) struct CpuFold {
    pub encoder: Backbone,
    pub decoder: Decoder<Tensor, Layer>,
    /// The encoder outputs that the decoder needs.
    pub request: Request,
    /// Whether the decoder needs the last block's output as well.
    pub takes_last: bool,
    /// The channels of the decoder's input and of each of its stages.
    pub channels: Vec<usize>,
    /// The decoder's classes, K.
    pub classes: usize,
    /// The number of parameters of all folds together. All folds are loaded at once and run one after another.
    pub parameters: usize,
}

impl CpuFold {
    /// Returns the weighted sums [K, H, W] of a slice's scores.
    pub fn sums(&self, slice: TensorView<'_>, tiling: &Tiling, batch: usize, check: Check<'_>) -> Result<Tensor> {
        tiling.sums(slice, self.classes, batch, |tiles| {
            check()?;
            self.scores(tiles, check)
        })
    }

    /// Returns the scores [B, K, h, w] of tiles [B, 1, h, w].
    fn scores(&self, tiles: &Tensor, check: Check<'_>) -> Result<Tensor> {
        let computed = cpu::at_once(async { self.encoder.submit_while_async(tiles, None, &self.request, check).await?.await });
        let Features { layers, x_norm, grid, .. } = computed?;
        let mut layers: Vec<&Tensor> = layers.iter().map(|(_, x)| x).collect();
        // Every request returns the last block's output after the final norm, so `request.layers` does not list it.
        if self.takes_last {
            layers.push(&x_norm);
        }
        // Only the decoder goes to the pool: a device in a browser stays on its thread.
        let decoder = &self.decoder;
        Ok(cpu::in_pool(|| cpu::decode(decoder, &layers, grid)))
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
        // `Backbone::features` refuses features that are not finite, so the decoder must be the cause.
        overflow("scores", Range::F32, Some("the decoder"))
    }

    fn bytes(&self, [batch, _, height, width]: [usize; 4], _: [usize; 2]) -> Result<u64> {
        let config = self.encoder.config();
        let (c, tokens) = (config.embed_dim, config.prefix_tokens() + config.grid(height, width)?.patches());
        let encoder = config.working_values(tokens) + product(&[tokens, 1 + self.request.layers.len(), c]);
        let scores = product(&[2 * self.classes + 1, height, width]);
        Ok((self.parameters as u64 + batch as u64 * (encoder + scores)) * 4 + cpu::decode_bytes(&self.channels) as u64)
    }
}
