//! The patch embedding: a convolution whose kernel is its stride, so a matmul over unfolded patches.

use rayon::prelude::*;

use super::{Epilogue, Layer, matmul};
use crate::tensor::Tensor;

/// image [B, in_chans or 1, H, W], weight [C, in_chans, p, p] as a layer [in_chans p p, C] -> [B, P, C]. A single channel stands for all; a remainder below one patch is not seen.
pub fn patch_embed(image: &Tensor, proj: &Layer, p: usize) -> Tensor {
    let &[batch, channels, height, width] = image.shape() else { panic!("an image is [B, channels, H, W], not {:?}", image.shape()) };
    let [k, c] = proj.shape();
    let (rows, cols) = (height / p, width / p);
    // Unfolded: [B * P, K], a patch a row.
    let mut unfolded = Tensor::zeros([batch * rows * cols, k]);
    unfolded.data_mut().par_chunks_mut(k).enumerate().for_each(|(patch, row)| {
        let (b, y, x) = (patch / (rows * cols), patch / cols % rows, patch % cols);
        for (i, line) in row.chunks_exact_mut(p).enumerate() {
            let channel = (i / p).min(channels - 1);
            let start = ((b * channels + channel) * height + y * p + i % p) * width + x * p;
            line.copy_from_slice(&image.data()[start..start + p]);
        }
    });
    Tensor::made(|y| matmul(&unfolded, proj, Epilogue::Bias, y)).reshaped([batch, rows * cols, c])
}
