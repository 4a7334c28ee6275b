//! The segmentation decoder, written as its definition reads.

use super::{FactorType, Layer, LayerEpilogue, layernorm_gelu, matmul, mosaic};
use crate::tensor::Tensor;
use crate::vit::config::Grid;
use crate::vit::decoder::{DECODER_EPS, Decoder, FAN};

/// Patches decoded at a time. So memory does not grow with the image, and the products are still large.
const PATCHES: usize = 216;

/// Packs a decoder's weights for [`decode`].
pub fn decoder_layers(decoder: Decoder<Tensor>, precision: FactorType) -> Decoder<Tensor, Layer> {
    decoder.map_linears(|linear| Layer::new(linear, precision))
}

/// Concatenates `layers`, each [B, T, C] whose last P tokens are the patches of `grid`, and decodes them to scores [B,
/// K, H, W] of every pixel.
pub fn decode(decoder: &Decoder<Tensor, Layer>, layers: &[&Tensor], grid: Grid) -> Tensor {
    let &[batch, tokens, c] = layers[0].shape() else { panic!("layers are [B, T, C], not {:?}", layers[0].shape()) };
    let (side, patches) = (1 << decoder.stages.len(), grid.patches());
    let [_, classes] = decoder.classify.shape();
    let mut maps = Tensor::zeros([batch, classes, grid.rows * side, grid.cols * side]);
    let image = maps.data().len() / batch;
    let [mut x, mut h] = [(); 2].map(|()| Tensor::empty());
    for (b, maps) in maps.data_mut().chunks_exact_mut(image).enumerate() {
        for first in (0..patches).step_by(PATCHES) {
            let mut rows = PATCHES.min(patches - first);
            let token = b * tokens + tokens - patches + first;
            concatenate(layers, token * c..(token + rows) * c, x.resize([rows, layers.len() * c]), c);
            for stage in &decoder.stages {
                let [_, out] = stage.up.shape();
                matmul(&x, &stage.up, LayerEpilogue::Bias, &mut h);
                rows *= FAN;
                h.resize([rows, out / FAN]);
                layernorm_gelu(&h, &stage.norm, DECODER_EPS, &mut x);
            }
            matmul(&x, &decoder.classify, LayerEpilogue::Bias, &mut h);
            mosaic(h.data(), first, grid, side, maps);
        }
    }
    maps
}

/// The values at `range` of every layer, with the layers' rows of `c` side by side.
fn concatenate(layers: &[&Tensor], range: std::ops::Range<usize>, out: &mut [f32], c: usize) {
    for (i, layer) in layers.iter().enumerate() {
        let rows = out[i * c..].chunks_mut(layers.len() * c).zip(layer.data()[range.clone()].chunks_exact(c));
        rows.for_each(|(out, row)| out[..c].copy_from_slice(row));
    }
}

/// The most bytes that [`decode`] needs beside its result. `channels` lists the decoder's input channels and those
/// after each stage. Two neighbours in this chain are in memory at a time.
pub fn decode_bytes(channels: &[usize]) -> usize {
    let row = |i: usize| FAN.pow(i as u32) * channels[i];
    (0..channels.len()).map(row).max().unwrap_or(0) * PATCHES * 2 * size_of::<f32>()
}
