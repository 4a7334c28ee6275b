//! Self-attention with an online softmax: no T x T matrix is ever held.

use rayon::prelude::*;

use super::gemm::{Matrix, Start, Threads, multiply};
use super::scalar::exp_nonpositive;
use super::simd::softmax;
use crate::tensor::Tensor;

/// Queries of one task: enough for the products to be fast, few enough to share a small image among threads.
const QUERIES: usize = 32;
/// Keys of one step: k, v and the scores of a step stay in the second-level cache.
const KEYS: usize = 256;

/// q, k, v as [3, B, N, T, D] -> [B, T, C]: `softmax(q k^T / sqrt D) v` for each head, heads side by side in C.
pub fn attention(qkv: &Tensor) -> Tensor {
    let &[3, batch, heads, t, d] = qkv.shape() else { panic!("q, k, v are [3, B, N, T, D], not {:?}", qkv.shape()) };
    let c = heads * d;
    let (q, kv) = qkv.data().split_at(batch * heads * t * d);
    let (k, v) = kv.split_at(batch * heads * t * d);
    // Each head's k as [D, T], once: a product reads it without packing it anew for every block of queries.
    let mut turned = vec![0.0; k.len()];
    turned.par_chunks_mut(t * d).zip(k.par_chunks(t * d)).for_each(|(turned, k)| turn(k, d, turned));
    let mut out = Tensor::zeros([batch, t, c]);
    for (b, image) in out.data_mut().chunks_exact_mut(t * c).enumerate() {
        image.par_chunks_mut(QUERIES * c).enumerate().for_each(|(block, rows)| {
            let queries = rows.len() / c;
            for n in 0..heads {
                let head = (b * heads + n) * t * d..(b * heads + n + 1) * t * d;
                let (k, v) = (&turned[head.clone()], &v[head.clone()]);
                let first = head.start + block * QUERIES * d;
                let attended = attend(&q[first..first + queries * d], k, v, d);
                for (row, attended) in rows.chunks_exact_mut(c).zip(attended.chunks_exact(d)) {
                    row[n * d..(n + 1) * d].copy_from_slice(attended);
                }
            }
        });
    }
    out
}

/// [T, D] -> [D, T]
fn turn(x: &[f32], d: usize, turned: &mut [f32]) {
    // Some columns at a time: the rows that they come from stay in the cache.
    const COLUMNS: usize = 16;
    let t = x.len() / d;
    for first in (0..t).step_by(COLUMNS) {
        for (i, row) in turned.chunks_exact_mut(t).enumerate() {
            for (j, y) in row[first..t.min(first + COLUMNS)].iter_mut().enumerate() {
                *y = x[(first + j) * d + i];
            }
        }
    }
}

/// One head, some queries: q [Q, D], k [D, T], v [T, D] -> [Q, D].
fn attend(q: &[f32], k: &[f32], v: &[f32], d: usize) -> Vec<f32> {
    let queries = q.len() / d;
    let scale = 1.0 / (d as f32).sqrt();
    let mut scores = vec![0.0; queries * KEYS.min(v.len() / d)];
    let mut sum = vec![0.0; queries * d];
    // Of each query so far: the largest score, and the softmax's denominator relative to it.
    let mut largest = vec![f32::NEG_INFINITY; queries];
    let mut weight = vec![0.0; queries];
    let k = Matrix::rows_of(k, v.len() / d);
    for (step, v) in v.chunks(KEYS * d).enumerate() {
        let keys = v.len() / d;
        let scores = &mut scores[..queries * keys];
        multiply(scores, Start::Zero, scale, Matrix::rows_of(q, d), k.columns(step * KEYS..step * KEYS + keys), Threads::One);
        for (i, scores) in scores.chunks_exact_mut(keys).enumerate() {
            let (seen, added) = softmax(scores, largest[i]);
            let rescale = exp_nonpositive(largest[i] - seen);
            largest[i] = seen;
            weight[i] = weight[i] * rescale + added;
            sum[i * d..(i + 1) * d].iter_mut().for_each(|s| *s *= rescale);
        }
        multiply(&mut sum, Start::Sum, 1.0, Matrix::rows_of(scores, keys), Matrix::rows_of(v, d), Threads::One);
    }
    for (sum, weight) in sum.chunks_exact_mut(d).zip(weight) {
        sum.iter_mut().for_each(|s| *s /= weight);
    }
    sum
}
