//! Self-attention with an online softmax, so that no T x T matrix is ever stored.
#![allow(clippy::inline_always, reason = "what a function for an instruction set calls must be inlined into it")]
#![allow(clippy::needless_lifetimes, reason = "pulp's macro makes a struct of the arguments, which needs their lifetime named")]

use std::borrow::Cow;

use pulp::Simd;
use rayon::prelude::*;

use super::ahead::Ahead;
use super::bf16::{pairs_along, pairs_down};
use super::division::task_blocks;
use super::dot::Bf16;
use super::matmul::FactorType;
use super::product::{CHANNELS, COLS, PANEL, ROWS, Tile, add_products_simd, interleave, pack, panel_simd, tile_simd};
use super::set::arch;
use super::simd::{Softmax, softmax_columns, softmax_columns_simd};
use super::window::Windows;
use crate::tensor::Tensor;

/// Queries computed together, one per column. The scores of a key are a row, so the softmax needs no operation across a
/// register's lanes.
const QUERIES: usize = COLS;
/// Keys of one step, in whole tiles. Their scores fit the first-level cache, and no f32 sum has more terms.
const KEYS: usize = 10 * ROWS;
/// A step's scores, one row per key, which become their exponentials.
type ScoreTile = [f32; KEYS * QUERIES];
/// A step's exponentials in bf16, two keys per row.
type WeightTile = [u32; KEYS / 2 * QUERIES];
/// Channels of a head in every ViT of this family. Rows of k with this stride are read without packing.
const HEAD_DIM: usize = 64;

/// q, k, v as [3, B, N, T, D] into out [B, T, C]: `softmax(q k^T / sqrt D) v` for each head, heads side by side in C.
pub fn attention(qkv: &Tensor, precision: FactorType, out: &mut Tensor) {
    let &[3, batch, heads, t, d] = qkv.shape() else { panic!("q, k, v are [3, B, N, T, D], not {:?}", qkv.shape()) };
    let (q, kv) = qkv.data().split_at(batch * heads * t * d);
    let (k, v) = kv.split_at(batch * heads * t * d);
    let (v, width) = padded(v, d);
    let out = out.resize([batch, t, heads * d]);
    match precision {
        FactorType::F32 => each_head(q, [heads, t, d], out, |head, columns| {
            let (k, v) = (&k[head * t * d..][..t * d], &v[head * t * width..][..t * width]);
            let mut scores: ScoreTile = [0.0; KEYS * QUERIES];
            for (k, v) in k.chunks(KEYS * d).zip(v.chunks(KEYS * width)) {
                columns.iter_mut().for_each(|columns| step(k, v, d, &mut scores, columns));
            }
        }),
        FactorType::Bf16(bf16) => {
            let (half, pairs) = (d.div_ceil(2), t.div_ceil(2));
            let k = pairs_along(k, d);
            let mut v_pairs = vec![0; batch * heads * pairs * width];
            v_pairs.par_chunks_mut(pairs * width).zip(v.par_chunks(t * width)).for_each(|(pairs, v)| pairs_down(v, width, pairs));
            each_head(q, [heads, t, d], out, |head, columns| {
                let (k, v) = (&k[head * t * half..][..t * half], &v_pairs[head * pairs * width..][..pairs * width]);
                let (mut scores, mut weights): (ScoreTile, WeightTile) = ([0.0; KEYS * QUERIES], [0; KEYS / 2 * QUERIES]);
                let queries: Vec<Vec<u32>> = columns.iter().map(|columns| columns.pairs(half)).collect();
                for (k, v) in k.chunks(KEYS * half).zip(v.chunks(KEYS / 2 * width)) {
                    let queries = queries.iter().map(|queries| &queries[..]);
                    columns
                        .iter_mut()
                        .zip(queries)
                        .for_each(|(columns, q)| step_bf16(bf16, [k, v, q], (&mut scores, &mut weights), columns));
                }
            });
        }
    }
}

/// QUERIES queries of one head, one per column, and their attention to the keys so far.
struct Columns {
    /// `q / sqrt D`, [D, QUERIES]
    q: Vec<f32>,
    /// Sums of exp(score) v: [W, QUERIES], with W = D rounded up to whole groups of channels.
    sums: Vec<f32>,
    softmax: Softmax,
}

impl Columns {
    /// Takes q [Q, D] with at most QUERIES rows; columns without a row are zeros.
    fn new(q: &[f32], d: usize) -> Self {
        let mut scaled = vec![0.0; d * QUERIES];
        interleave::<QUERIES>(q, d, 1.0 / (d as f32).sqrt(), &mut scaled);
        Self { q: scaled, sums: vec![0.0; d.next_multiple_of(CHANNELS) * QUERIES], softmax: Softmax::new() }
    }

    /// The queries in bf16: [D/2, QUERIES] pairs.
    fn pairs(&self, half: usize) -> Vec<u32> {
        let mut pairs = vec![0; half * QUERIES];
        pairs_down(&self.q, QUERIES, &mut pairs);
        pairs
    }
}

/// Computes out [B, T, C] from q [B, N, T, D], for some queries of one head at a time: `attend(head of B * N, columns)`
/// visits all keys.
fn each_head(q: &[f32], [heads, t, d]: [usize; 3], out: &mut [f32], attend: impl Fn(usize, &mut [Columns]) + Sync) {
    let all_heads = q.len() / (t * d);
    // A task loads a step's k and v from memory once for all its queries.
    let queries = QUERIES * task_blocks(t.div_ceil(QUERIES), all_heads, rayon::current_num_threads());
    let groups = t.div_ceil(queries);
    let images: Vec<Windows> = out.chunks_exact_mut(t * heads * d).map(|image| Windows::new(image, heads * d, queries, d)).collect();
    // Threads work on the same head, so they share its keys and values in their caches.
    (0..all_heads * groups).into_par_iter().for_each(|task| {
        let (head, group) = (task / groups, task % groups);
        let mut window = images[head / heads].take(group, head % heads);
        let q = &q[(head * t + group * queries) * d..][..window.rows() * d];
        let mut columns: Vec<Columns> = q.chunks(QUERIES * d).map(|q| Columns::new(q, d)).collect();
        attend(head, &mut columns);
        for row in 0..window.rows() {
            let (columns, i) = (&columns[row / QUERIES], row % QUERIES);
            let weight = columns.softmax.weight(i);
            for (y, channel) in window.row(row).iter_mut().zip(columns.sums.chunks_exact(QUERIES)) {
                *y = channel[i] / weight;
            }
        }
    });
}

/// Rows [.., D] padded with zeros to whole groups of [`CHANNELS`], and the padded length.
fn padded(v: &[f32], d: usize) -> (Cow<'_, [f32]>, usize) {
    let width = d.next_multiple_of(CHANNELS);
    if width == d {
        return (Cow::Borrowed(v), d);
    }
    let mut wide = vec![0.0; v.len() / d * width];
    wide.chunks_exact_mut(width).zip(v.chunks_exact(d)).for_each(|(wide, v)| wide[..d].copy_from_slice(v));
    (Cow::Owned(wide), width)
}

/// Adds some keys and their values: k [keys, D], v [keys, W].
#[pulp::with_simd(step = arch())]
#[inline(always)]
fn step_simd<'a, S: Simd>(simd: S, k: &'a [f32], v: &'a [f32], d: usize, scores: &'a mut ScoreTile, columns: &'a mut Columns) {
    let keys = k.len() / d;
    for (k, scores) in k.chunks(ROWS * d).zip(scores.as_chunks_mut().0) {
        scores_simd(simd, k, d, &columns.q, scores);
    }
    let scores = &mut scores[..keys * QUERIES];
    softmax_columns_simd(simd, scores, &mut columns.softmax, &mut columns.sums);
    add_products_simd(simd, v, scores, &mut columns.sums);
}

/// Computes a tile of scores from k [keys, D] with at most ROWS rows and q [D, QUERIES].
#[inline(always)]
fn scores_simd<S: Simd>(simd: S, k: &[f32], d: usize, q: &[f32], scores: &mut Tile) {
    if let (HEAD_DIM, Some(k)) = (d, k.as_chunks().0.first_chunk()) {
        panel_simd::<S, HEAD_DIM>(simd, k, q, true, &mut Ahead::nothing(), scores);
        return;
    }
    let mut panels = vec![[[0.0; PANEL]; ROWS]; d.div_ceil(PANEL)];
    pack(k, d, &mut panels);
    tile_simd(simd, &panels, q, &[], scores);
}

/// [`step`] with the factors of both products in bf16, `[k, v, queries]`: k [keys, D/2] pairs along, v [keys/2, W]
/// pairs down, queries [D/2, QUERIES]. The softmax is f32.
fn step_bf16(bf16: Bf16, [k, v, queries]: [&[u32]; 3], (scores, weights): (&mut ScoreTile, &mut WeightTile), columns: &mut Columns) {
    let half = queries.len() / QUERIES;
    let (keys, width) = (k.len() / half, columns.sums.len() / QUERIES);
    for (k, scores) in k.chunks(ROWS * half).zip(scores.as_chunks_mut().0) {
        bf16.tile(k, half, queries, scores);
    }
    let scores = &mut scores[..keys * QUERIES];
    softmax_columns(scores, &mut columns.softmax, &mut columns.sums);
    let weights = &mut weights[..keys.div_ceil(2) * QUERIES];
    pairs_down(scores, QUERIES, weights);
    for (group, sums) in columns.sums.chunks_exact_mut(CHANNELS * QUERIES).enumerate() {
        bf16.add_eight(v, width, group * CHANNELS, weights, sums);
    }
}
