//! LayerNorm over the innermost axis.

use rayon::prelude::*;

use super::simd;
use crate::tensor::Tensor;
use crate::vit::weights::Norm;

/// Writes `(x - mean) / sqrt(var + eps) * weight + bias` of each row of x [.., C] to y. Mean and (biased) variance are
/// summed in f64, in two passes.
pub fn layernorm(x: &Tensor, norm: &Norm<Tensor>, eps: f32, y: &mut Tensor) {
    let c = x.cols();
    let rows = y.resize(x.shape()).par_chunks_mut(c).zip(x.data().par_chunks(c));
    rows.for_each(|(y, x)| simd::layernorm(x, norm.weight.data(), norm.bias.data(), eps, y));
}

/// [`gelu`](super::gelu) of [`layernorm`], in one pass.
pub fn layernorm_gelu(x: &Tensor, norm: &Norm<Tensor>, eps: f32, y: &mut Tensor) {
    // A row may be as short as a few channels, so a task takes many rows.
    const TASK: usize = 4096;
    let c = x.cols();
    let task = TASK.div_ceil(c) * c;
    let tasks = y.resize(x.shape()).par_chunks_mut(task).zip(x.data().par_chunks(task));
    tasks.for_each(|(y, x)| {
        let rows = y.chunks_exact_mut(c).zip(x.chunks_exact(c));
        rows.for_each(|(y, x)| simd::layernorm(x, norm.weight.data(), norm.bias.data(), eps, y));
        simd::gelu(y);
    });
}
