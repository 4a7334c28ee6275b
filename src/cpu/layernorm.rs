//! LayerNorm over the innermost axis.

use rayon::prelude::*;

use super::simd;
use crate::tensor::Tensor;
use crate::vit::weights::Norm;

/// `(x - mean) / sqrt(var + eps) * weight + bias` for each row of x [.., C], into y; mean and (biased) variance are summed in f64, in two passes.
pub fn layernorm(x: &Tensor, norm: &Norm<Tensor>, eps: f32, y: &mut Tensor) {
    let c = x.cols();
    let rows = y.resize(x.shape()).par_chunks_mut(c).zip(x.data().par_chunks(c));
    rows.for_each(|(y, x)| simd::layernorm(x, norm.weight.data(), norm.bias.data(), eps, y));
}
