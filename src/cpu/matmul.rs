//! Linear layers, and what follows their products.

use rayon::prelude::*;

use super::gemm::{Matrix, Start, Threads, multiply};
use super::simd;
use crate::tensor::Tensor;
use crate::vit::weights::{Linear, Weights};

/// Rows of a result that are finished before the next are begun, so that what follows the product finds them in the cache.
const ROWS: usize = 512;

/// A linear layer as products read it fastest: its weight [N, K] turned into [K, N], once, at load.
#[derive(Clone, Debug)]
pub struct Layer {
    turned: Tensor,
    bias: Option<Tensor>,
}

impl Layer {
    /// `[K, N]`: length of what goes in and of what comes out.
    pub fn shape(&self) -> [usize; 2] {
        [self.turned.rows(), self.turned.cols()]
    }
}

/// Weight [N, ..], all axes but the first taken for one, and bias `[N]`.
impl From<Linear<Tensor>> for Layer {
    fn from(Linear { weight, bias }: Linear<Tensor>) -> Self {
        // Some columns at a time: the lines of the cache that their rows lie in stay there until all of each is read.
        const COLUMNS: usize = 16;
        let n = weight.shape()[0];
        let k = weight.data().len() / n;
        let mut turned = Tensor::zeros([k, n]);
        turned.data_mut().par_chunks_mut(COLUMNS * n).enumerate().for_each(|(block, rows)| {
            for (col, w) in weight.data().chunks_exact(k).enumerate() {
                for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                    row[col] = w[block * COLUMNS + i];
                }
            }
        });
        Self { turned, bias }
    }
}

/// A model's weights in the form that [`forward`](super::forward) takes.
pub fn layers(weights: Weights<Tensor>) -> Weights<Tensor, Layer> {
    weights.map_linears(Layer::from)
}

/// What is done to `x W^T` before it is stored.
pub enum Epilogue<'a> {
    /// `+ bias`, where the layer has one.
    Bias,
    /// `gelu(.. + bias)`
    BiasGelu,
    /// `residual + gamma * (.. + bias)`: gamma `[C]`, residual [.., C], whose buffer becomes the result.
    LayerScaleResidual(&'a Tensor, Tensor),
}

/// x [.., K], layer [K, N] -> [.., N]: `epilogue(x weight^T)`, accumulated in f32.
pub fn matmul(x: &Tensor, layer: &Layer, epilogue: Epilogue) -> Tensor {
    let [k, n] = layer.shape();
    let shape: Vec<usize> = x.shape().iter().copied().take(x.shape().len() - 1).chain([n]).collect();
    let zeros = vec![0.0; n];
    let bias = layer.bias.as_ref().map_or(&zeros[..], Tensor::data);
    let product = |x: &[f32], y: &mut [f32]| {
        multiply(y, Start::Zero, 1.0, Matrix::rows_of(x, k), Matrix::of(&layer.turned), Threads::All);
    };
    let blocks = x.data().chunks(ROWS * k);
    if let Epilogue::LayerScaleResidual(gamma, mut residual) = epilogue {
        let mut y = vec![0.0; ROWS.min(x.rows()) * n];
        for (x, residual) in blocks.zip(residual.data_mut().chunks_mut(ROWS * n)) {
            let y = &mut y[..residual.len()];
            product(x, y);
            residual.par_chunks_mut(n).zip(y.par_chunks(n)).for_each(|(row, y)| {
                for (((r, &v), &b), &g) in row.iter_mut().zip(y).zip(bias).zip(gamma.data()) {
                    *r += (v + b) * g;
                }
            });
        }
        return residual;
    }
    let gelu = matches!(epilogue, Epilogue::BiasGelu);
    let mut y = Tensor::zeros(shape);
    for (x, y) in blocks.zip(y.data_mut().chunks_mut(ROWS * n)) {
        product(x, y);
        y.par_chunks_mut(n).for_each(
            |row| {
                if gelu { simd::add_gelu(row, bias) } else { row.iter_mut().zip(bias).for_each(|(v, b)| *v += b) }
            },
        );
    }
    y
}
