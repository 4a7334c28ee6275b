//! Linear layers, and what follows their products.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::bf16::{Pairs, pairs_along};
use super::division::Division;
use super::dot::Bf16;
use super::product::{COLS, PANEL, Panel, ROWS, Strips, Tile, pack, tile};
use super::simd;
use super::window::Windows;
use crate::tensor::Tensor;
use crate::vit::weights::{Linear, Weights};

thread_local! {
    /// The packed rows of the current product. Each thread keeps this memory, because allocating it anew would cost
    /// more than the packing.
    static PANELS: Cell<Vec<Panel>> = const { Cell::new(Vec::new()) };
}

/// The type of the factors of products. Sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FactorType {
    /// f32.
    #[default]
    F32,
    /// bf16, on a machine with an instruction for it. About twice as fast; features differ in the third digit.
    Bf16(Bf16),
}

/// A linear layer, with its weight [N, K] packed in strips once, at load, because products read strips fastest.
#[derive(Clone, Debug)]
pub struct Layer {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Clone, Debug)]
enum Weight {
    F32(Strips),
    Bf16(Bf16, Pairs),
}

impl Weight {
    /// `[K, N]`
    fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(strips) => strips.shape(),
            Self::Bf16(_, pairs) => pairs.shape(),
        }
    }
}

impl Layer {
    /// Packs a weight [N, ..], whose axes after the first count as one, and a bias `[N]`.
    pub fn new(Linear { weight, bias }: Linear<Tensor>, precision: FactorType) -> Self {
        let k = weight.data().len() / weight.shape()[0];
        let weight = match precision {
            FactorType::F32 => Weight::F32(Strips::of_transposed(weight.data(), k)),
            FactorType::Bf16(bf16) => Weight::Bf16(bf16, Pairs::of_transposed(weight.data(), k)),
        };
        Self { weight, bias }
    }

    /// `[K, N]`: lengths of the input and output rows.
    pub fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    /// The type of the factors of the layer's products.
    pub fn precision(&self) -> FactorType {
        match self.weight {
            Weight::F32(_) => FactorType::F32,
            Weight::Bf16(bf16, _) => FactorType::Bf16(bf16),
        }
    }
}

/// In f32.
impl From<Linear<Tensor>> for Layer {
    fn from(linear: Linear<Tensor>) -> Self {
        Self::new(linear, FactorType::F32)
    }
}

/// Packs a model's weights for [`forward`](super::forward).
pub fn layers(weights: Weights<Tensor>, precision: FactorType) -> Weights<Tensor, Layer> {
    weights.map_linears(|linear| Layer::new(linear, precision))
}

/// What follows `x W^T` before the result is stored.
#[derive(Clone, Copy)]
pub enum LayerEpilogue<'a> {
    /// `+ bias`, where the layer has one.
    Bias,
    /// `gelu(.. + bias)`
    BiasGelu,
    /// `y + gamma * (.. + bias)`, gamma `[C]`: y is the residual stream.
    LayerScaleResidual(&'a Tensor),
}

/// Writes `epilogue(x weight^T)` to y [.., N], for x [.., K] and a layer [K, N]. Sums are f32.
pub fn matmul(x: &Tensor, layer: &Layer, epilogue: LayerEpilogue, y: &mut Tensor) {
    let [k, n] = layer.shape();
    assert_eq!(x.cols(), k, "{:?} through a layer [{k}, {n}]", x.shape());
    let shape: Vec<usize> = x.shape().iter().copied().take(x.shape().len() - 1).chain([n]).collect();
    let zeros = vec![0.0; if layer.bias.is_none() { n } else { 0 }];
    let bias = layer.bias.as_ref().map_or(&zeros[..], Tensor::data);
    match epilogue {
        LayerEpilogue::Bias => {
            product(x.data(), &layer.weight, y.resize(shape), |tile, column| simd::add_bias(tile, &bias[column..]), copy);
        }
        LayerEpilogue::BiasGelu => {
            product(x.data(), &layer.weight, y.resize(shape), |tile, column| simd::bias_gelu(tile, &bias[column..]), copy);
        }
        LayerEpilogue::LayerScaleResidual(gamma) => {
            let finish = |tile: &mut Tile, column: usize| simd::bias_scale(tile, &bias[column..], &gamma.data()[column..]);
            product(x.data(), &layer.weight, y.data_mut(), finish, add);
        }
    }
}

fn copy(y: &mut [f32], row: &[f32]) {
    y.copy_from_slice(row);
}

fn add(y: &mut [f32], row: &[f32]) {
    y.iter_mut().zip(row).for_each(|(y, v)| *y += v);
}

/// Computes `x [M, K] weight [K, N]` for y [M, N], a tile at a time. `finish(tile, column)` applies the epilogue to
/// a tile whose first column is `column`. `store(y, row)` then writes each row of the tile.
fn product(x: &[f32], weight: &Weight, y: &mut [f32], finish: impl Fn(&mut Tile, usize) + Sync, store: impl Fn(&mut [f32], &[f32]) + Sync) {
    let [k, n] = weight.shape();
    let Division { band, task } = Division::of([x.len() / k, n], rayon::current_num_threads());
    match weight {
        Weight::F32(strips) => {
            // Packs some rows at a time, which stay in the caches while the whole weight is read.
            for (x, y) in x.chunks(band * k).zip(y.chunks_mut(band * n)) {
                let (mut panels, tile_panels) = (PANELS.take(), k.div_ceil(PANEL));
                panels.resize(x.len().div_ceil(ROWS * k) * tile_panels, [[0.0; PANEL]; ROWS]);
                panels.par_chunks_mut(tile_panels).zip(x.par_chunks(ROWS * k)).for_each(|(panels, x)| pack(x, k, panels));
                let make = |rows: Range<usize>, strip, sums: &mut Tile| {
                    let lhs = &panels[rows.start / ROWS * tile_panels..][..tile_panels];
                    // While the tiles of a task are computed, the next task's strip arrives from memory.
                    let next = strips.part_of_next(strip, rows.start % task / ROWS, task / ROWS);
                    tile(lhs, strips.strip(strip), next, sums);
                };
                share([x.len() / k, n], task, y, make, &finish, &store);
                PANELS.set(panels);
            }
        }
        Weight::Bf16(bf16, pairs) => {
            let (x, half) = (pairs_along(x, k), k.div_ceil(2));
            let make = |rows: Range<usize>, strip, sums: &mut Tile| {
                bf16.tile(&x[rows.start * half..rows.end * half], half, pairs.strip(strip), sums);
            };
            share([x.len() / half, n], task, y, make, &finish, &store);
        }
    }
}

/// Computes y [M, N] a tile at a time on all threads, in tasks of `task` rows and one strip.
/// `make(rows, strip, tile)` computes a tile; `finish` and `store` are those of [`product`].
fn share(
    [m, n]: [usize; 2],
    task: usize,
    y: &mut [f32],
    make: impl Fn(Range<usize>, usize, &mut Tile) + Sync,
    finish: &(impl Fn(&mut Tile, usize) + Sync),
    store: &(impl Fn(&mut [f32], &[f32]) + Sync),
) {
    assert_eq!(m * n, y.len(), "[{m}, {n}]");
    let y = Windows::new(y, n, task, COLS);
    let strips = n.div_ceil(COLS);
    let tasks = (0..m.div_ceil(task)).into_par_iter().flat_map(|group| (0..strips).into_par_iter().map(move |strip| (group, strip)));
    tasks.for_each(|(group, strip)| {
        let mut window = y.take(group, strip);
        let mut sums: Tile = [0.0; ROWS * COLS];
        for first in (0..window.rows()).step_by(ROWS) {
            let rows = first..window.rows().min(first + ROWS);
            make(group * task + rows.start..group * task + rows.end, strip, &mut sums);
            finish(&mut sums, strip * COLS);
            for (row, sums) in rows.zip(sums.chunks_exact(COLS)) {
                let y = window.row(row);
                store(y, &sums[..y.len()]);
            }
        }
    });
}
