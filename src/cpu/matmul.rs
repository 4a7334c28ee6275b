//! Linear layers, and what follows their products.

use rayon::prelude::*;

use super::product::{COLS, ROWS, Strips, Tile, tile};
use super::simd;
use super::window::Windows;
use crate::tensor::Tensor;
use crate::vit::weights::{Linear, Weights};

/// Rows of a result that one task computes at most: what it reads of x stays in the second-level cache while strip after strip of the weight goes by.
const TASK_ROWS: usize = 18 * ROWS;

/// A linear layer as products read it fastest: its weight [N, K] in strips, packed once, at load.
#[derive(Clone, Debug)]
pub struct Layer {
    weight: Strips,
    bias: Option<Tensor>,
}

impl Layer {
    /// `[K, N]`: length of what goes in and of what comes out.
    pub fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }
}

/// Weight [N, ..], all axes but the first taken for one, and bias `[N]`.
impl From<Linear<Tensor>> for Layer {
    fn from(Linear { weight, bias }: Linear<Tensor>) -> Self {
        let k = weight.data().len() / weight.shape()[0];
        Self { weight: Strips::of_transposed(weight.data(), k), bias }
    }
}

/// A model's weights in the form that [`forward`](super::forward) takes.
pub fn layers(weights: Weights<Tensor>) -> Weights<Tensor, Layer> {
    weights.map_linears(Layer::from)
}

/// What is done to `x W^T` before it is stored.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// `+ bias`, where the layer has one.
    Bias,
    /// `gelu(.. + bias)`
    BiasGelu,
    /// `y + gamma * (.. + bias)`, gamma `[C]`: y is the residual stream.
    LayerScaleResidual(&'a Tensor),
}

/// x [.., K], layer [K, N] into y [.., N]: `epilogue(x weight^T)`, accumulated in f32.
pub fn matmul(x: &Tensor, layer: &Layer, epilogue: Epilogue, y: &mut Tensor) {
    let [k, n] = layer.shape();
    let shape: Vec<usize> = x.shape().iter().copied().take(x.shape().len() - 1).chain([n]).collect();
    let zeros = vec![0.0; if layer.bias.is_none() { n } else { 0 }];
    let bias = layer.bias.as_ref().map_or(&zeros[..], Tensor::data);
    match epilogue {
        Epilogue::Bias => product(x.data(), k, &layer.weight, y.resize(shape), |tile, column| simd::add_bias(tile, &bias[column..]), copy),
        Epilogue::BiasGelu => {
            product(x.data(), k, &layer.weight, y.resize(shape), |tile, column| simd::bias_gelu(tile, &bias[column..]), copy);
        }
        Epilogue::LayerScaleResidual(gamma) => {
            let finish = |tile: &mut Tile, column: usize| simd::bias_scale(tile, &bias[column..], &gamma.data()[column..]);
            product(x.data(), k, &layer.weight, y.data_mut(), finish, add);
        }
    }
}

fn copy(y: &mut [f32], row: &[f32]) {
    y.copy_from_slice(row);
}

fn add(y: &mut [f32], row: &[f32]) {
    y.iter_mut().zip(row).for_each(|(y, v)| *y += v);
}

/// `x [M, K] weight [K, N]` for y [M, N], a tile at a time: `finish(tile, column)` does what follows the product, `column` being the tile's first; then
/// `store(y, row)` puts each of its rows where it belongs.
fn product(
    x: &[f32],
    k: usize,
    weight: &Strips,
    y: &mut [f32],
    finish: impl Fn(&mut Tile, usize) + Sync,
    store: impl Fn(&mut [f32], &[f32]) + Sync,
) {
    let (m, n) = (x.len() / k, weight.shape()[1]);
    assert!(m * n == y.len() && k == weight.shape()[0], "[{m}, {k}] x {:?} into {}", weight.shape(), y.len());
    // Tasks of equal size, whole tiles each.
    let task = m.div_ceil(m.div_ceil(TASK_ROWS).max(1)).next_multiple_of(ROWS);
    let y = Windows::new(y, n, task, COLS);
    let tasks = (0..m.div_ceil(task)).into_par_iter().flat_map(|group| (0..weight.len()).into_par_iter().map(move |strip| (group, strip)));
    tasks.for_each(|(group, strip)| {
        let mut sums: Tile = [0.0; ROWS * COLS];
        let mut window = y.take(group, strip);
        for first in (0..window.rows()).step_by(ROWS) {
            let rows = ROWS.min(window.rows() - first);
            let from = group * task + first;
            tile(&x[from * k..(from + rows) * k], k, weight.strip(strip), &mut sums);
            finish(&mut sums, strip * COLS);
            for (i, row) in sums.chunks_exact(COLS).enumerate().take(rows) {
                let y = window.row(first + i);
                store(y, &row[..y.len()]);
            }
        }
    });
}
