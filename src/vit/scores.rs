//! Records the forward pass of a fine-tuned network: the model, and the decoder on its patch tokens.

use std::ops::Range;

use super::config::Config;
use super::decoder::{DECODER_EPS, Decoder, FAN, Shape};
use super::forward::{BatchShape, block, stored};
use super::weights::{Spec, Weights};
use crate::error::Result;
use crate::graph::{Elem, Graph, Limits, Role, TensorId};
use crate::kernels::{Columns, Epilogue, Mosaic, Recorder};

/// The largest tensor between two stages of the decoder, in bytes. It limits how many patches are decoded at a time, so
/// that the decoder takes no more memory than the blocks have freed. Its products are still large.
const STAGE_BYTES: u64 = 32 << 20;

/// The inputs and outputs of a recorded pass.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// Input: the normalised images [B, Cin or 1, H, W].
    pub image: TensorId,
    /// Input: sines and cosines of every patch [2, P, D/2], as [`super::rope::table`] makes them.
    pub table: TensorId,
    /// Input: the weight of each pixel of an image [H, W].
    pub weights: TensorId,
    /// Input: the position of each image on the slice [B, 4], in the form that [`Mosaic`] describes.
    pub places: TensorId,
    /// Output: the weighted scores of every class at every pixel of the slice [K, Y, X]. A run adds to the values
    /// already in it.
    pub sums: TensorId,
}

/// Patches that are decoded together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Their indices among all patches of the batch.
    pub patches: Range<usize>,
    /// Their tokens, the decoder's layers side by side: [patches, L C].
    pub tokens: TensorId,
}

impl Piece {
    /// Returns where a layer's tokens are written, for images with `of_each` patches: to the columns from `column` on.
    pub fn columns(&self, of_each: usize, column: usize) -> Columns {
        Columns { patches: self.patches.clone(), of_each, joined: self.tokens, column }
    }
}

/// Records a whole pass over tiles of a slice of `size` [Y, X] for a device with these `limits`.
///
/// # Errors
/// If the tiles hold no patch, or the device's limits are too narrow.
///
/// # Panics
/// If the tiles are not a whole number of patches, or are larger than the slice; both are programming errors.
pub fn record(config: &Config, shape: &Shape, limits: Limits, input: BatchShape, size: [usize; 2]) -> Result<(Graph, Scores)> {
    let BatchShape { batch, channels, height, width, .. } = input;
    let grid = config.grid(height, width)?;
    let mut g = Recorder::new(limits);
    let mut weight = |spec: &Spec| g.tensor_of(stored(spec, limits.elem), &spec.name, spec.shape.clone(), Role::Weight);
    let w = Weights::specs(config).map(&mut |spec| weight(spec));
    let d = Decoder::linear_specs(shape).map(&mut |spec| weight(spec));
    let image = g.tensor("image", [batch, channels, height, width], Role::Input);
    let table = g.tensor("rope", [2, grid.patches(), config.head_dim() / 2], Role::Input);

    let to = Mosaic {
        sums: g.joined(Elem::F32, "sums", [shape.classes, size[0], size[1]]),
        weights: g.tensor("weights", [height, width], Role::Input),
        places: g.tensor("places", [batch, 4], Role::Input),
        grid: [grid.rows, grid.cols],
        side: config.patch_size,
    };
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
    decode(&mut g, &d, &pieces, &to)?;
    g.keep(to.sums);
    Ok((g.finish(), Scores { image, table, weights: to.weights, places: to.places, sums: to.sums }))
}

/// Splits `patches` patches into pieces to decode one by one. Creates the tensor of each piece's tokens, which is still
/// to be written.
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

/// Records the decoder over `pieces` of the patches of tiles, and adds their scores to the slice `to`.
///
/// # Errors
/// If the device's limits are too narrow.
pub fn decode(g: &mut Recorder, d: &Decoder<TensorId>, pieces: &[Piece], to: &Mosaic) -> Result<()> {
    for piece in pieces {
        let mut x = piece.tokens;
        for (i, stage) in d.stages.iter().enumerate() {
            let at = format!("up_projection.decode.{i}");
            let h = g.matmul(&format!("{at}.0"), x, stage.up.weight, Epilogue::bias(stage.up.bias))?;
            x = g.layernorm_gelu(&format!("{at}.1"), h, stage.norm.weight, stage.norm.bias, DECODER_EPS)?;
        }
        let at = format!("up_projection.decode.{}", d.stages.len());
        let pixels = g.matmul_as(Elem::F32, &at, x, d.classify.weight, Epilogue::bias(d.classify.bias))?;
        g.mosaic("mosaic", pixels, &piece.patches, to)?;
    }
    Ok(())
}
