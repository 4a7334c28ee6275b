//! `attention`: fused, online softmax.

use meddino::graph::Limits;
use meddino::kernels::Heads;
use meddino::{Tensor, cpu};

use crate::cases::{Table, Tolerance, noise};

#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    heads: usize,
    tokens: usize,
    head_dim: usize,
}

/// [B, N, T, D] to [B, T, N D], scores and weights stored whole.
fn oracle(shape: Shape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
    let Shape { batch, heads, tokens, head_dim } = shape;
    let mut want = vec![0.0; batch * tokens * heads * head_dim];
    for head in 0..batch * heads {
        let row = |x: &[f32], t: usize| x[(head * tokens + t) * head_dim..][..head_dim].iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (keys, values): (Vec<_>, Vec<_>) = (0..tokens).map(|t| (row(k, t), row(v, t))).unzip();
        for t in 0..tokens {
            let query = row(q, t);
            let dot = |key: &Vec<f64>| query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() / (head_dim as f64).sqrt();
            let scores: Vec<f64> = keys.iter().map(dot).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let place = ((head / heads * tokens + t) * heads + head % heads) * head_dim;
            for (weight, value) in weights.iter().zip(&values) {
                want[place..place + head_dim].iter_mut().zip(value).for_each(|(o, v)| *o += weight / sum * v);
            }
        }
    }
    want
}

/// `peak` scales the queries: at 1 the softmax is nearly flat, at 30 one key takes nearly all.
fn check(table: &mut Table, shape: Shape, peak: f32, variants: &[(&str, Limits)]) {
    let Shape { batch, heads, tokens, head_dim } = shape;
    let axes = [batch, heads, tokens, head_dim];
    let n = axes.iter().product();
    let (mut q, k, v) = (noise(1, n), noise(2, n), noise(3, n));
    q.iter_mut().for_each(|q| *q *= peak);
    let want = oracle(shape, &q, &k, &v);
    // A score's error, which grows with the scores, is a relative error of its weight.
    let error = 5e-7 * f64::from(peak.max(2.0));
    let tolerance = Tolerance { atol: error, rtol: 1e-6, l2: error };
    let heads_first = Tensor::new([3, batch, heads, tokens, head_dim], [&q[..], &k, &v].concat());
    table.twin(
        &format!("{shape:?}, peak {peak}"),
        tolerance,
        &want,
        Tensor::made(|y| cpu::attention(&heads_first, cpu::Precision::F32, y)).data(),
    );
    for &(variant, limits) in variants {
        let name = format!("{variant} {shape:?}, peak {peak}, bindings of {}", limits.max_binding);
        table.check(&name, limits, tolerance, &want, |case| {
            let q = case.input("q", &axes, &q);
            let (k, v) = (case.input("k", &axes, &k), case.input("v", &axes, &v));
            Ok(vec![case.recorder.attention("attention", Heads { q, k, v })?])
        });
    }
}

#[test]
fn heads_and_tokens_of_any_size() {
    let mut table = Table::new("attention");
    let variants = table.variants();
    for tokens in [1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 129] {
        check(&mut table, Shape { batch: 1, heads: 2, tokens, head_dim: 64 }, 4.0, &variants);
    }
    for head_dim in [4, 12, 32, 80, 128] {
        check(&mut table, Shape { batch: 2, heads: 3, tokens: 37, head_dim }, 4.0, &variants);
    }
    for peak in [0.01, 30.0, 1000.0] {
        check(&mut table, Shape { batch: 1, heads: 1, tokens: 70, head_dim: 64 }, peak, &variants);
    }
    check(&mut table, Shape { batch: 2, heads: 2, tokens: 201, head_dim: 64 }, 4.0, &variants);
    table.finish();
}

#[test]
fn a_long_row_of_tokens() {
    let mut table = Table::new("attention");
    let variants = table.variants();
    check(&mut table, Shape { batch: 1, heads: 1, tokens: 1029, head_dim: 64 }, 4.0, &variants);
    table.finish();
}

#[test]
fn forced_down_limits_give_the_same_numbers() {
    let mut table = Table::new("attention");
    // A head takes 70 * 32 * 4 = 8960 bytes: one, two or four a binding; rows of the result are cut within an image and across two.
    for (binding, workgroups) in [(9 << 10, 64), (20 << 10, 2), (40 << 10, 1), (40 << 10, 64)] {
        let forced = table.forced(binding, workgroups);
        check(&mut table, Shape { batch: 2, heads: 3, tokens: 70, head_dim: 32 }, 4.0, &forced);
    }
    // Heads of 37 * 20 elements may only be bound sixteen at a time.
    let forced = table.forced(60 << 10, 64);
    check(&mut table, Shape { batch: 3, heads: 7, tokens: 37, head_dim: 20 }, 4.0, &forced);
    table.finish();
}
