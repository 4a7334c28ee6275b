//! The forward pass, written as the model's definition reads.

use std::future::{Future, ready};

use super::{Layer, LayerEpilogue, at_once, attention, layernorm, matmul, patch_embed, rope, tokens};
use crate::error::Result;
use crate::tensor::{Tensor, TensorView};
use crate::vit::config::Config;
use crate::vit::features::{Check, Features, Range, Request};
use crate::vit::rope::table;
use crate::vit::weights::Weights;

/// Runs a batch of images through the model, whose weights [`layers`](super::layers) has packed.
///
/// `image` is normalised, [B, in_chans, H, W], or [B, 1, H, W] whose one channel stands for all (CT). `mask` [B * P],
/// if given, is true where `mask_token` replaces a patch.
///
/// # Errors
/// If the image is smaller than a patch or has another number of channels, a layer is no block of this model, the mask
/// has the wrong length or no `mask_token` to put in, or the features are not finite.
pub fn forward<'a>(
    weights: &Weights<Tensor, Layer>,
    config: &Config,
    image: impl Into<TensorView<'a>>,
    mask: Option<&[bool]>,
    request: &Request,
) -> Result<Features> {
    forward_while(weights, config, image.into(), mask, request, &|| Ok(()))
}

/// Runs a batch as [`forward`] does. `check` runs before each block of the model; its error ends the pass.
///
/// # Errors
/// As [`forward`], and the error of `check`.
pub fn forward_while(
    weights: &Weights<Tensor, Layer>,
    config: &Config,
    image: TensorView<'_>,
    mask: Option<&[bool]>,
    request: &Request,
    check: Check<'_>,
) -> Result<Features> {
    at_once(forward_pausing(weights, config, image, mask, request, || ready(check())))
}

/// Runs a batch as [`forward`] does, and waits for `pause` before each block of the model, so that the caller's thread has
/// time for other work. An error of `pause` ends the pass.
///
/// # Errors
/// As [`forward`], and the error of `pause`.
pub async fn forward_pausing<P: Future<Output = Result<()>>>(
    weights: &Weights<Tensor, Layer>,
    config: &Config,
    image: TensorView<'_>,
    mask: Option<&[bool]>,
    request: &Request,
    pause: impl Fn() -> P,
) -> Result<Features> {
    let features = pass(weights, config, image, mask, request, &pause).await?;
    if features.are_finite() {
        return Ok(features);
    }
    // A second pass with all taps finds the first that is not finite.
    let traced = pass(weights, config, image, mask, &Request { taps: true, ..Request::default() }, &pause).await?;
    Err(traced.overflow(Range::F32))
}

async fn pass<P: Future<Output = Result<()>>>(
    weights: &Weights<Tensor, Layer>,
    config: &Config,
    image: TensorView<'_>,
    mask: Option<&[bool]>,
    request: &Request,
    pause: &impl Fn() -> P,
) -> Result<Features> {
    request.check(config)?;
    let (batch, grid) = config.check_image(image.shape())?;
    if let Some(mask) = mask {
        config.check_mask(mask.len(), batch, grid)?;
    }
    let (heads, prefix, eps) = (config.num_heads, config.prefix_tokens(), config.norm_eps);
    let precision = weights.patch_embed.precision();
    let mut taps = Vec::new();
    let mut tap = |name: String, x: &Tensor| {
        if request.taps {
            taps.push((name, x.clone()));
        }
    };
    let mut layers = Vec::new();

    let patches = patch_embed(image, &weights.patch_embed, config.patch_size);
    tap("patch_embed".into(), &patches);
    let mut x = tokens(&patches, &weights.cls_token, weights.storage_tokens.as_ref(), mask.zip(weights.mask_token.as_ref()));
    let table = table(config, grid);
    // A block's intermediate tensors. All blocks share this memory.
    let [mut h, mut qkv, mut rotated, mut a, mut hidden] = [(); 5].map(|()| Tensor::empty());
    for (i, block) in weights.blocks.iter().enumerate() {
        pause().await?;
        layernorm(&x, &block.norm1, eps, &mut h);
        matmul(&h, &block.attn.qkv, LayerEpilogue::Bias, &mut qkv);
        rope(&qkv, &table, heads, prefix, config.rope, &mut rotated);
        attention(&rotated, precision, &mut a);
        matmul(&a, &block.attn.proj, LayerEpilogue::LayerScaleResidual(&block.ls1), &mut x);

        layernorm(&x, &block.norm2, eps, &mut h);
        matmul(&h, &block.mlp.fc1, LayerEpilogue::BiasGelu, &mut hidden);
        matmul(&hidden, &block.mlp.fc2, LayerEpilogue::LayerScaleResidual(&block.ls2), &mut x);

        tap(format!("blocks.{i}"), &x);
        if request.layers.contains(&i) {
            layers.push((i, Tensor::filled_by(|y| layernorm(&x, &weights.norm, eps, y))));
        }
    }
    let x_norm = Tensor::filled_by(|y| layernorm(&x, &weights.norm, eps, y));
    Ok(Features { grid, x_norm, x_prenorm: request.prenorm.then_some(x), layers, taps })
}
