//! LayerNorm over the innermost axis.

use rayon::prelude::*;

use super::simd;
use crate::tensor::Tensor;
use crate::vit::weights::Norm;

/// `(x - mean) / sqrt(var + eps) * weight + bias` for each row of x [.., C]; mean and (biased) variance are summed in f64, in two passes.
pub fn layernorm(x: &Tensor, norm: &Norm<Tensor>, eps: f32) -> Tensor {
    let c = x.cols();
    let mut y = x.clone();
    y.data_mut().par_chunks_mut(c).for_each(|row| simd::layernorm(row, norm.weight.data(), norm.bias.data(), eps));
    y
}
