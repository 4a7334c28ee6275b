//! The forward pass of a fine-tuned network, recorded as its definition reads: the model, and the decoder on its patch tokens.

use std::ops::Range;

use super::config::{Config, Grid};
use super::decoder::{DECODER_EPS, Decoder, FAN, Shape};
use super::forward::{Input, block, stored};
use super::weights::{Spec, Weights};
use crate::error::Result;
use crate::graph::{Elem, Graph, Limits, Role, TensorId};
use crate::kernels::{Columns, Epilogue, Mosaic, Recorder};

/// The largest tensor between two stages of the decoder, in bytes: patches are decoded as many at a time as keep to it, so that a decoder takes no more
/// memory than the blocks have freed, and products are still large.
const STAGE_BYTES: u64 = 32 << 20;

/// Which tensors of a recorded pass are what.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// Input: the normalised images [B, Cin or 1, H, W].
    pub image: TensorId,
    /// Input: sines and cosines of every patch [2, P, D/2], as [`super::rope::table`] makes them.
    pub table: TensorId,
    /// Output: a score for every class at every pixel [B, K, H, W].
    pub maps: TensorId,
}

/// Patches that are decoded together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Their numbers among all patches of the batch.
    pub patches: Range<usize>,
    /// Their tokens, the decoder's layers side by side: [patches, L C].
    pub tokens: TensorId,
}

impl Piece {
    /// Where a layer's tokens go, of images with `of_each` patches: to the columns from `column` on.
    pub fn columns(&self, of_each: usize, column: usize) -> Columns {
        Columns { patches: self.patches.clone(), of_each, joined: self.tokens, column }
    }
}

/// Records a whole pass for a device that allows `limits`.
///
/// # Errors
/// If the images hold no patch, or the device's limits are too narrow.
pub fn record(config: &Config, shape: &Shape, limits: Limits, input: Input) -> Result<(Graph, Scores)> {
    let Input { batch, channels, height, width, .. } = input;
    let grid = config.grid(height, width)?;
    let mut g = Recorder::new(limits);
    let mut weight = |spec: &Spec| g.tensor_of(stored(spec, limits.elem), &spec.name, spec.shape.clone(), Role::Weight);
    let w = Weights::specs(config).map(&mut |spec| weight(spec));
    let d = Decoder::linear_specs(shape).map(&mut |spec| weight(spec));
    let image = g.tensor("image", [batch, channels, height, width], Role::Input);
    let table = g.tensor("rope", [2, grid.patches(), config.head_dim() / 2], Role::Input);

    let pieces = pieces(&mut g, shape, batch * grid.patches());
    let bias = w.patch_embed.bias.expect("a patch embedding has a bias");
    let patch_embed = g.patch_embed("patch_embed", image, w.patch_embed.weight, bias)?;
    let mut x = g.tokens("tokens", patch_embed, w.cls_token, w.storage_tokens, None)?;
    let last = shape.layers.iter().copied().max().unwrap_or(0);
    for (i, b) in w.blocks.iter().enumerate().take(last + 1) {
        x = block(&mut g, config, &format!("blocks.{i}"), b, x, table)?;
        for place in shape.layers.iter().enumerate().filter(|(_, layer)| **layer == i).map(|(place, _)| place) {
            for piece in &pieces {
                let to = piece.columns(grid.patches(), place * config.embed_dim);
                g.layernorm_patches(&format!("layers.{i}"), x, [w.norm.weight, w.norm.bias], config.norm_eps, &to)?;
            }
        }
    }
    let maps = decode(&mut g, shape, &d, &pieces, (batch, grid))?;
    Ok((g.finish(), Scores { image, table, maps }))
}

/// The pieces in which `patches` are decoded, whose tokens are still to be written.
pub fn pieces(g: &mut Recorder, shape: &Shape, patches: usize) -> Vec<Piece> {
    let stage = |(i, channels): (usize, &usize)| FAN.pow(i as u32) * channels;
    let longest =
        shape.channels.iter().enumerate().map(stage).max().unwrap_or(1).max(FAN.pow(shape.channels.len() as u32 - 1) * shape.classes);
    let most = (STAGE_BYTES.min(g.limits().max_binding) as usize / (longest * Elem::F32.bytes())).max(1);
    let piece = |first: usize| {
        let patches = first..patches.min(first + most);
        let tokens = g.joined(g.elem(), "up_projection", [patches.len(), shape.channels[0]]);
        Piece { patches, tokens }
    };
    (0..patches).step_by(most).map(piece).collect()
}

/// Records the decoder over `pieces` of the patches of a batch of images of this grid: [B, K, H, W].
///
/// # Errors
/// If the device's limits are too narrow.
pub fn decode(g: &mut Recorder, shape: &Shape, d: &Decoder<TensorId>, pieces: &[Piece], (batch, grid): (usize, Grid)) -> Result<TensorId> {
    let side = 1 << d.stages.len();
    let maps = g.joined(Elem::F32, "scores", [batch, shape.classes, grid.rows * side, grid.cols * side]);
    for piece in pieces {
        let mut x = piece.tokens;
        for (i, stage) in d.stages.iter().enumerate() {
            let at = format!("up_projection.decode.{i}");
            let h = g.matmul(&format!("{at}.0"), x, stage.up.weight, Epilogue::bias(stage.up.bias))?;
            x = g.layernorm_gelu(&format!("{at}.1"), h, stage.norm.weight, stage.norm.bias, DECODER_EPS)?;
        }
        let at = format!("up_projection.decode.{}", d.stages.len());
        let pixels = g.matmul_as(Elem::F32, &at, x, d.classify.weight, Epilogue::bias(d.classify.bias))?;
        g.mosaic("scores", pixels, &piece.patches, Mosaic { maps, grid: [grid.rows, grid.cols], side })?;
    }
    g.keep(maps);
    Ok(maps)
}
