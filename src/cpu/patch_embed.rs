//! The patch embedding: a convolution whose kernel size equals its stride, and so a matrix product over unfolded
//! patches.

use rayon::prelude::*;

use super::{Layer, LayerEpilogue, matmul};
use crate::tensor::{Tensor, TensorView};

/// Embeds an image [B, in_chans or 1, H, W] by a weight [C, in_chans, p, p], packed as a layer [in_chans p p, C], to
/// [B, P, C]. A single channel stands for all. A remainder below one patch is ignored.
pub fn patch_embed<'a>(image: impl Into<TensorView<'a>>, proj: &Layer, p: usize) -> Tensor {
    let image = image.into();
    let &[batch, channels, height, width] = image.shape() else { panic!("an image is [B, channels, H, W], not {:?}", image.shape()) };
    let [k, c] = proj.shape();
    let (rows, cols) = (height / p, width / p);
    // [B * P, K], one patch per row.
    let mut unfolded = Tensor::zeros([batch * rows * cols, k]);
    unfolded.data_mut().par_chunks_mut(k).enumerate().for_each(|(patch, row)| {
        let (b, y, x) = (patch / (rows * cols), patch / cols % rows, patch % cols);
        for (i, line) in row.chunks_exact_mut(p).enumerate() {
            let channel = (i / p).min(channels - 1);
            let start = ((b * channels + channel) * height + y * p + i % p) * width + x * p;
            line.copy_from_slice(&image.data()[start..start + p]);
        }
    });
    Tensor::filled_by(|y| matmul(&unfolded, proj, LayerEpilogue::Bias, y)).reshaped([batch, rows * cols, c])
}
