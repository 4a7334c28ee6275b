//! Records the forward pass in the order of the model's definition: one call per line, each a method of [`Recorder`].
//!
//! B images, Cin channels, P = Hp Wp patches, R storage tokens, T = 1 + R + P tokens, C channels. Nothing is computed
//! here.

use super::config::{Config, RopePrecision};
use super::features::Request;
use super::layers::Layers;
use super::weights::{Block, Linear, Norm, Spec, Weights};
use crate::count::values_in;
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{Elem, Graph, Limits, Role, TensorId};
use crate::kernels::{Epilogue, Mask, Recorder, Rotation};

/// The images that a recorded pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchShape {
    /// Number of images, B.
    pub batch: usize,
    /// Number of channels: `in_chans`, or 1 if one channel is used for all.
    pub channels: usize,
    /// Rows of pixels, H.
    pub height: usize,
    /// Columns of pixels, W.
    pub width: usize,
    /// Whether a mask says which patches become `mask_token`.
    pub masked: bool,
}

/// The inputs and outputs of a recorded pass.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The normalised images [B, Cin or 1, H, W]. They are an input of a pass that [`record`] recorded.
    pub image: TensorId,
    /// Input: sines and cosines of every patch [2, P, D/2], as [`super::rope::table`] makes them.
    pub table: TensorId,
    /// Input: 1 where `mask_token` replaces a patch, else 0: [B, P].
    pub mask: Option<TensorId>,
    /// Output: every token after the last block and the final norm [B, T, C].
    pub x_norm: TensorId,
    /// Output, if requested: every token after the last block [B, T, C].
    pub x_prenorm: Option<TensorId>,
    /// Outputs, as requested: (N, every token after block N and the final norm [B, T, C]).
    pub layers: Vec<(usize, TensorId)>,
    /// Outputs, if requested: `patch_embed` [B, P, C] and `blocks.N` [B, T, C].
    pub taps: Vec<(String, TensorId)>,
}

/// The inputs and the outputs of a recorded pass that projects its tokens. Each block's mean `[C]` and directions [K, C]
/// are weights of these names, with the block's number.
#[derive(Clone, Debug)]
pub struct Projected {
    /// Input: the normalised images [B, Cin or 1, H, W].
    pub image: TensorId,
    /// Input: sines and cosines of every patch [2, P, D/2], as [`super::rope::table`] makes them.
    pub table: TensorId,
    /// Outputs, of each block in turn: each direction's product with every token minus the mean [B, T, K].
    pub scores: Vec<TensorId>,
}

impl Projected {
    /// Returns the names of the mean and of the directions of a block.
    pub fn names(layer: usize) -> [String; 2] {
        [format!("projection.{layer}.mean"), format!("projection.{layer}.directions")]
    }
}

/// Records a whole pass for a device with these `limits`.
///
/// # Errors
/// If the images hold no patch, a layer is no block of this model, or the device's limits are too narrow.
pub fn record(config: &Config, limits: Limits, input: BatchShape, request: &Request) -> Result<(Graph, Forward)> {
    let BatchShape { batch, channels, height, width, masked } = input;
    countable("image", &[batch, channels, height, width])?;
    let mut g = Recorder::new(limits);
    let image = g.tensor("image", [batch, channels, height, width], Role::Input);
    let forward = record_on(&mut g, config, image, masked, request)?;
    Ok((g.finish(), forward))
}

/// Appends a whole pass over the `image` [B, Cin or 1, H, W], which may be the result of recorded operations.
///
/// # Errors
/// As [`record`].
///
/// # Panics
/// If the image does not have four axes, which is a programming error.
pub fn record_on(g: &mut Recorder, config: &Config, image: TensorId, masked: bool, request: &Request) -> Result<Forward> {
    let forward = pass(g, config, image, masked, request)?;
    forward.layers.iter().for_each(|(_, layer)| g.keep(*layer));
    g.keep(forward.x_norm);
    Ok(forward)
}

/// Records a whole pass whose tokens stay on the device: its outputs are the projections of those of `layers` on
/// `directions` directions.
///
/// # Errors
/// As [`record`].
pub fn record_projected(
    config: &Config,
    limits: Limits,
    input: BatchShape,
    layers: &Layers,
    directions: usize,
) -> Result<(Graph, Projected)> {
    let BatchShape { batch, channels, height, width, masked } = input;
    countable("image", &[batch, channels, height, width])?;
    let mut g = Recorder::new(limits);
    let image = g.tensor("image", [batch, channels, height, width], Role::Input);
    // The last block's tokens go through the final norm in any case.
    let (last, before): (Vec<usize>, Vec<usize>) = layers.of_model(config.depth).into_iter().partition(|layer| layer + 1 == config.depth);
    let Forward { table, x_norm, layers, .. } = pass(&mut g, config, image, masked, &Request { layers: before, ..Request::default() })?;
    let tokens = layers.into_iter().chain(last.into_iter().map(|layer| (layer, x_norm)));
    let scores = tokens.map(|(layer, tokens)| project(&mut g, layer, tokens, directions)).collect::<Result<_>>()?;
    Ok((g.finish(), Projected { image, table, scores }))
}

/// Records the projection of the tokens [B, T, C] of `layer`, which is an output: [B, T, K].
fn project(g: &mut Recorder, layer: usize, tokens: TensorId, directions: usize) -> Result<TensorId> {
    let c = *g.graph().info(tokens).shape.last().expect("a token has channels");
    let [mean_name, directions_name] = Projected::names(layer);
    let mean = g.tensor(&mean_name, [c], Role::Weight);
    let directions = g.tensor(&directions_name, [directions, c], Role::Weight);
    let scores = g.basis(&format!("projection.{layer}"), tokens, mean, directions)?;
    g.keep(scores);
    Ok(scores)
}

/// Appends a pass. Its tokens after the final norm are not kept yet.
fn pass(g: &mut Recorder, config: &Config, image: TensorId, masked: bool, request: &Request) -> Result<Forward> {
    request.check(config)?;
    let &[batch, _, height, width] = g.graph().info(image).shape.as_slice() else { panic!("an image has four axes") };
    let patches = config.grid(height, width)?.patches();
    countable("blocks", &[batch, config.prefix_tokens() + patches, config.ffn_dim.max(3 * config.embed_dim)])?;
    let elem = g.elem();
    let w = Weights::specs(config).map(&mut |spec| g.tensor_of(stored(spec, elem), &spec.name, spec.shape.clone(), Role::Weight));
    let table = g.tensor("rope", [2, patches, config.head_dim() / 2], Role::Input);
    let mask = masked.then(|| g.tensor("mask", [batch, patches], Role::Input));
    let (mut layers, mut taps) = (Vec::new(), Vec::new());

    let patch_embed = g.patch_embed("patch_embed", image, w.patch_embed.weight, bias(&w.patch_embed))?;
    tap(g, request, &mut taps, "patch_embed", patch_embed);
    let masking = mask.zip(w.mask_token).map(|(mask, token)| Mask { mask, token });
    let mut x = g.tokens("tokens", patch_embed, w.cls_token, w.storage_tokens, masking)?;
    for (i, b) in w.blocks.iter().enumerate() {
        x = block(g, config, &format!("blocks.{i}"), b, x, table)?;
        tap(g, request, &mut taps, &format!("blocks.{i}"), x);
        if request.layers.contains(&i) {
            layers.push((i, final_norm(g, config, &format!("layers.{i}"), &w.norm, x)?));
        }
    }
    let x_norm = final_norm(g, config, "norm", &w.norm, x)?;
    if request.prenorm {
        g.keep(x);
    }
    let x_prenorm = request.prenorm.then_some(x);
    Ok(Forward { image, table, mask, x_norm, x_prenorm, layers, taps })
}

/// Checks that this program can count the bytes of a tensor. In a browser it counts to 4 GiB.
fn countable(label: &str, shape: &[usize]) -> Result<()> {
    if values_in(shape).is_some_and(|values| values <= usize::MAX / 4) {
        return Ok(());
    }
    let problem =
        format!("{label}: {shape:?} values take more bytes than a {}-bit program counts; use a smaller image (`size`)", usize::BITS);
    Err(Error::gpu(GpuFailure::TooLarge, problem))
}

/// Returns the type of a parameter on a device that computes in `elem`. The matrices of blocks and decoder, which are
/// nearly all of a model, have that type. Vectors, tokens and the patch embedding stay f32, because they are combined
/// with the residual stream.
pub fn stored(spec: &Spec, elem: Elem) -> Elem {
    let product = ["blocks.", "up_projection."].iter().any(|part| spec.name.starts_with(part)) && spec.shape.len() == 2;
    if product { elem } else { Elem::F32 }
}

/// Records one transformer block: x [B, T, C] -> [B, T, C]. The names of its tensors and dispatches begin with `at.`.
///
/// # Errors
/// If the device's limits are too narrow.
pub fn block(g: &mut Recorder, config: &Config, at: &str, b: &Block<TensorId>, x: TensorId, table: TensorId) -> Result<TensorId> {
    let (heads, bf16, eps) = (config.num_heads, config.rope == RopePrecision::Bf16, config.norm_eps);
    let residual = |layer, gamma, residual| Epilogue::BiasLayerScaleResidual { bias: bias(layer), gamma, residual };

    let h = g.layernorm(&format!("{at}.norm1"), x, b.norm1.weight, b.norm1.bias, eps)?;
    let qkv = g.rope(&format!("{at}.attn.qkv"), h, b.attn.qkv.weight, b.attn.qkv.bias, Rotation { table, heads, bf16 })?;
    let a = g.attention(&format!("{at}.attn"), qkv)?;
    let x = g.matmul(&format!("{at}.attn.proj"), a, b.attn.proj.weight, residual(&b.attn.proj, b.ls1, x))?;

    let h = g.layernorm(&format!("{at}.norm2"), x, b.norm2.weight, b.norm2.bias, eps)?;
    let h = g.matmul(&format!("{at}.mlp.fc1"), h, b.mlp.fc1.weight, Epilogue::BiasGelu(bias(&b.mlp.fc1)))?;
    g.matmul(&format!("{at}.mlp.fc2"), h, b.mlp.fc2.weight, residual(&b.mlp.fc2, b.ls2, x))
}

/// Records the model's last LayerNorm, whose result is f32.
fn final_norm(g: &mut Recorder, config: &Config, label: &str, norm: &Norm<TensorId>, x: TensorId) -> Result<TensorId> {
    g.layernorm_as(Elem::F32, label, x, norm.weight, norm.bias, config.norm_eps)
}

/// Keeps a tensor for comparing backends, if taps are requested.
fn tap(g: &mut Recorder, request: &Request, taps: &mut Vec<(String, TensorId)>, name: &str, x: TensorId) {
    if request.taps {
        g.keep(x);
        taps.push((name.to_owned(), x));
    }
}

/// Returns the bias of a layer that has one in every DINOv3, which is every layer but qkv.
fn bias(layer: &Linear<TensorId>) -> TensorId {
    layer.bias.expect("Weights::specs gives every layer but qkv a bias")
}
