//! LayerNorm over the innermost axis.

use rayon::prelude::*;

use crate::tensor::Tensor;
use crate::vit::weights::Norm;

/// `(x - mean) / sqrt(var + eps) * weight + bias` for each row of x [.., C]; mean and (biased) variance are summed in f64, in two passes.
pub fn layernorm(x: &Tensor, norm: &Norm<Tensor>, eps: f32) -> Tensor {
    let c = x.cols();
    let mut y = x.clone();
    y.data_mut().par_chunks_mut(c).for_each(|row| {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / c as f64;
        let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / c as f64;
        let scale = 1.0 / (var + f64::from(eps)).sqrt();
        for ((v, &w), &b) in row.iter_mut().zip(norm.weight.data()).zip(norm.bias.data()) {
            *v = ((f64::from(*v) - mean) * scale) as f32 * w + b;
        }
    });
    y
}
