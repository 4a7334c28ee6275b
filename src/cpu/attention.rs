//! Self-attention with an online softmax: no T x T matrix is ever held.

use std::borrow::Cow;

use rayon::prelude::*;

use super::product::{COLS, ROWS, add_eight, interleave, tile};
use super::simd::{Softmax, softmax_columns};
use crate::tensor::Tensor;

/// Queries of one task, a column each: the scores of a key are a row, so that the softmax runs along registers.
const QUERIES: usize = COLS;
/// Keys of one step, whole blocks: their scores stay in the first-level cache, and no f32 sum is longer.
const KEYS: usize = 10 * ROWS;
/// The channels of v that are summed together.
const CHANNELS: usize = 8;

/// q, k, v as [3, B, N, T, D] into out [B, T, C]: `softmax(q k^T / sqrt D) v` for each head, heads side by side in C.
pub fn attention(qkv: &Tensor, out: &mut Tensor) {
    let &[3, batch, heads, t, d] = qkv.shape() else { panic!("q, k, v are [3, B, N, T, D], not {:?}", qkv.shape()) };
    let c = heads * d;
    let (q, kv) = qkv.data().split_at(batch * heads * t * d);
    let (k, v) = kv.split_at(batch * heads * t * d);
    let (v, width) = padded(v, d);
    for (b, image) in out.resize([batch, t, c]).chunks_exact_mut(t * c).enumerate() {
        image.par_chunks_mut(QUERIES * c).enumerate().for_each(|(block, rows)| {
            let queries = rows.len() / c;
            for n in 0..heads {
                let head = b * heads + n;
                let q = &q[(head * t + block * QUERIES) * d..][..queries * d];
                let attended = attend(q, &k[head * t * d..][..t * d], &v[head * t * width..][..t * width], d);
                for (i, row) in rows.chunks_exact_mut(c).enumerate() {
                    for (y, channel) in row[n * d..(n + 1) * d].iter_mut().zip(attended.chunks_exact(QUERIES)) {
                        *y = channel[i];
                    }
                }
            }
        });
    }
}

/// Rows [.., D] filled up with zeros to whole groups of [`CHANNELS`], and their length.
fn padded(v: &[f32], d: usize) -> (Cow<'_, [f32]>, usize) {
    let width = d.next_multiple_of(CHANNELS);
    if width == d {
        return (Cow::Borrowed(v), d);
    }
    let mut wide = vec![0.0; v.len() / d * width];
    wide.chunks_exact_mut(width).zip(v.chunks_exact(d)).for_each(|(wide, v)| wide[..d].copy_from_slice(v));
    (Cow::Owned(wide), width)
}

/// One head, at most QUERIES queries: q [Q, D], k [T, D], v [T, W] with W = D filled up to whole groups of channels -> [W, QUERIES].
fn attend(q: &[f32], k: &[f32], v: &[f32], d: usize) -> Vec<f32> {
    let width = d.next_multiple_of(CHANNELS);
    let mut scaled = vec![0.0; d * QUERIES];
    interleave::<QUERIES>(q, d, 1.0 / (d as f32).sqrt(), &mut scaled);
    let mut sums = vec![0.0; width * QUERIES];
    let mut scores = [0.0; KEYS * QUERIES];
    let mut softmax = Softmax::new();
    for (k, v) in k.chunks(KEYS * d).zip(v.chunks(KEYS * width)) {
        let keys = k.len() / d;
        for (k, scores) in k.chunks(ROWS * d).zip(scores.as_chunks_mut().0) {
            tile(k, d, &scaled, scores);
        }
        let scores = &mut scores[..keys * QUERIES];
        softmax_columns(scores, &mut softmax, &mut sums);
        for (group, sums) in sums.chunks_exact_mut(CHANNELS * QUERIES).enumerate() {
            add_eight(v, width, group * CHANNELS, scores, sums);
        }
    }
    softmax.divide(&mut sums);
    sums
}
