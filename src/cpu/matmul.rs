//! Linear layers, and what follows their products.

use rayon::prelude::*;

use super::gemm::{Matrix, Start, Threads, multiply};
use super::scalar::gelu;
use crate::tensor::Tensor;
use crate::vit::weights::Linear;

/// What is done to `x W^T` before it is stored.
pub enum Epilogue<'a> {
    /// `+ bias`, where the layer has one.
    Bias,
    /// `gelu(.. + bias)`
    BiasGelu,
    /// `residual + gamma * (.. + bias)`: gamma `[C]`, residual [.., C], whose buffer becomes the result.
    LayerScaleResidual(&'a Tensor, Tensor),
}

/// x [.., K], weight [N, K], bias `[N]` -> [.., N]: `epilogue(x weight^T)`, accumulated in f32.
pub fn matmul(x: &Tensor, linear: &Linear<Tensor>, epilogue: Epilogue) -> Tensor {
    let n = linear.weight.rows();
    let shape: Vec<usize> = x.shape().iter().copied().take(x.shape().len() - 1).chain([n]).collect();
    let mut y = Tensor::zeros(shape);
    let (x, w) = (Matrix::of(x), Matrix::of(&linear.weight));
    multiply(y.data_mut(), Start::Zero, 1.0, x, w.transposed(), Threads::All);
    let zeros = vec![0.0; n];
    let bias = linear.bias.as_ref().map_or(&zeros[..], Tensor::data);
    match epilogue {
        Epilogue::Bias => each_row(&mut y, |_, row| row.iter_mut().zip(bias).for_each(|(v, b)| *v += b)),
        Epilogue::BiasGelu => each_row(&mut y, |_, row| row.iter_mut().zip(bias).for_each(|(v, b)| *v = gelu(*v + b))),
        Epilogue::LayerScaleResidual(gamma, mut residual) => {
            each_row(&mut residual, |i, row| {
                let product = &y.data()[i * n..(i + 1) * n];
                for (((r, &v), &b), &g) in row.iter_mut().zip(product).zip(bias).zip(gamma.data()) {
                    *r += (v + b) * g;
                }
            });
            return residual;
        }
    }
    y
}

fn each_row(x: &mut Tensor, f: impl Fn(usize, &mut [f32]) + Sync) {
    let n = x.cols();
    x.data_mut().par_chunks_mut(n).enumerate().for_each(|(i, row)| f(i, row));
}
