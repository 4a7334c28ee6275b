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
    let mut out = Tensor::zeros([batch, t, c]);
    for (b, image) in out.data_mut().chunks_exact_mut(t * c).enumerate() {
        image.par_chunks_mut(QUERIES * c).enumerate().for_each(|(block, rows)| {
            let queries = rows.len() / c;
            for n in 0..heads {
                let head = (b * heads + n) * t * d..(b * heads + n + 1) * t * d;
                let (k, v) = (&k[head.clone()], &v[head.clone()]);
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

/// One head, some queries: q [Q, D], k and v [T, D] -> [Q, D].
fn attend(q: &[f32], k: &[f32], v: &[f32], d: usize) -> Vec<f32> {
    let queries = q.len() / d;
    let scale = 1.0 / (d as f32).sqrt();
    let mut scores = vec![0.0; queries * KEYS.min(k.len() / d)];
    let mut sum = vec![0.0; queries * d];
    // Of each query so far: the largest score, and the softmax's denominator relative to it.
    let mut largest = vec![f32::NEG_INFINITY; queries];
    let mut weight = vec![0.0; queries];
    for (k, v) in k.chunks(KEYS * d).zip(v.chunks(KEYS * d)) {
        let keys = k.len() / d;
        let scores = &mut scores[..queries * keys];
        multiply(scores, Start::Zero, scale, Matrix::rows_of(q, d), Matrix::rows_of(k, d).transposed(), Threads::One);
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
