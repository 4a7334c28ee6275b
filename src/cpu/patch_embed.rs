//! The patch embedding: a convolution whose kernel is its stride, so a matmul over unfolded patches.

use rayon::prelude::*;

use super::{Epilogue, matmul};
use crate::tensor::Tensor;
use crate::vit::weights::Linear;

/// image [B, in_chans or 1, H, W], weight [C, in_chans, p, p] -> [B, P, C]. A single channel stands for all; a remainder below one patch is not seen.
pub fn patch_embed(image: &Tensor, proj: &Linear<Tensor>, p: usize) -> Tensor {
    let &[batch, channels, height, width] = image.shape() else { panic!("an image is [B, channels, H, W], not {:?}", image.shape()) };
    let &[c, in_chans, ..] = proj.weight.shape() else { panic!("a patch embedding is [C, in_chans, p, p]") };
    let (rows, cols) = (height / p, width / p);
    let k = in_chans * p * p;
    // Unfolded: [B * P, in_chans * p * p], a patch a row.
    let mut unfolded = Tensor::zeros([batch * rows * cols, k]);
    unfolded.data_mut().par_chunks_mut(k).enumerate().for_each(|(patch, row)| {
        let (b, y, x) = (patch / (rows * cols), patch / cols % rows, patch % cols);
        for (i, line) in row.chunks_exact_mut(p).enumerate() {
            let channel = (i / p).min(channels - 1);
            let start = ((b * channels + channel) * height + y * p + i % p) * width + x * p;
            line.copy_from_slice(&image.data()[start..start + p]);
        }
    });
    let proj = Linear { weight: proj.weight.clone().reshaped([c, k]), bias: proj.bias.clone() };
    matmul(&unfolded, &proj, Epilogue::Bias).reshaped([batch, rows * cols, c])
}
