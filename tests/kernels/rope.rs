//! `rope`: turns token-major qkv into head-major q, k and v, and rotates q and k.

use half::bf16;
use meddino::graph::{Elem, Limits};
use meddino::vit::config::RopePrecision;
use meddino::{Tensor, cpu};

use crate::cases::{EXACT, Table, Tolerance, noise, noise_of};

#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    heads: usize,
    prefix: usize,
    patches: usize,
    head_dim: usize,
}

/// Computes q, k or v: [B, N, T, D]. `round` is the identity, or rounds values that are exact in f64 to bf16.
fn oracle(shape: Shape, qkv: &[f32], table: &[f32], part: usize, round: fn(f64) -> f64) -> Vec<f64> {
    let Shape { batch, heads, prefix, patches, head_dim } = shape;
    let (tokens, half) = (prefix + patches, head_dim / 2);
    let (sin, cos) = table.split_at(patches * half);
    let mut want = Vec::new();
    for (b, n) in (0..batch).flat_map(|b| (0..heads).map(move |n| (b, n))) {
        for t in 0..tokens {
            let at = ((b * tokens + t) * 3 + part) * heads * head_dim + n * head_dim;
            let x: Vec<f64> = qkv[at..at + head_dim].iter().map(|&v| f64::from(v)).collect();
            if part == 2 {
                want.extend(x);
                continue;
            }
            let x: Vec<f64> = x.into_iter().map(round).collect();
            for i in 0..head_dim {
                let Some(patch) = t.checked_sub(prefix) else {
                    want.push(x[i]);
                    continue;
                };
                let (sin, cos) = (f64::from(sin[patch * half + i % half]), f64::from(cos[patch * half + i % half]));
                let rotated = if i < half { -x[i + half] } else { x[i - half] };
                want.push(round(round(x[i] * cos) + round(rotated * sin)));
            }
        }
    }
    want
}

fn check(table: &mut Table, shape: Shape, limits: Limits) {
    let Shape { batch, heads, prefix, patches, head_dim } = shape;
    let tokens = prefix + patches;
    let to_bf16 = |x: f64| f64::from(bf16::from_f32(x as f32).to_f32());
    for rounded in [false, true] {
        let qkv = noise_of(limits.elem, 1, batch * tokens * 3 * heads * head_dim);
        let mut angles = noise(2, patches * head_dim);
        if rounded {
            angles.iter_mut().for_each(|a| *a = to_bf16(f64::from(*a)) as f32);
        }
        let round: fn(f64) -> f64 = if rounded { to_bf16 } else { |x| x };
        let want: Vec<f64> = (0..3).flat_map(|part| oracle(shape, &qkv, &angles, part, round)).collect();
        let tolerance = if rounded { EXACT } else { Tolerance { atol: 2e-7, rtol: 2e-7, l2: 1e-7 } };
        let precision = if rounded { RopePrecision::Bf16 } else { RopePrecision::F32 };
        let token_major = Tensor::new([batch, tokens, 3 * heads * head_dim], qkv.clone());
        let angles_table = Tensor::new([2, patches, head_dim / 2], angles.clone());
        let twin = Tensor::filled_by(|y| cpu::rope(&token_major, &angles_table, heads, prefix, precision, y));
        if limits.elem == Elem::F32 {
            table.twin(&format!("{shape:?}, bf16 {rounded}"), tolerance, &want, twin.data());
        }
        let tolerance = match (limits.elem, rounded) {
            // f16 represents every bf16 value exactly, except below 2^-17.
            (Elem::F16, true) => Tolerance { atol: 3e-8, rtol: 0.0, l2: 1e-7 },
            (elem, _) => tolerance.stored(elem),
        };
        table.check(&format!("{shape:?}, bf16 {rounded}, bindings of {}", limits.max_binding), limits, tolerance, &want, |case| {
            let qkv = case.handed("qkv", &[batch, tokens, 3 * heads * head_dim], &qkv);
            let angles = case.input("table", &[2, patches, head_dim / 2], &angles);
            let out = case.recorder.rope("rope", qkv, angles, heads, rounded)?;
            Ok(vec![out.q, out.k, out.v])
        });
    }
}

#[test]
fn heads_and_tokens_of_any_size() {
    let mut table = Table::new("rope");
    let [(_, own), _] = table.variants();
    for head_dim in [4, 12, 32, 64, 80, 128] {
        for (prefix, patches) in [(0, 3), (5, 1), (1, 7), (5, 12)] {
            check(&mut table, Shape { batch: 2, heads: 3, prefix, patches, head_dim }, own);
        }
    }
    check(&mut table, Shape { batch: 1, heads: 12, prefix: 5, patches: 196, head_dim: 64 }, own);
    check(&mut table, Shape { batch: 2, heads: 2, prefix: 5, patches: 1024, head_dim: 64 }, own);
    for (_, tier) in table.tiers() {
        for head_dim in [12, 64] {
            check(&mut table, Shape { batch: 2, heads: 3, prefix: 5, patches: 12, head_dim }, tier);
        }
        let forced = Limits { max_binding: 6 << 10, max_workgroups: 64, ..tier };
        check(&mut table, Shape { batch: 3, heads: 3, prefix: 5, patches: 16, head_dim: 32 }, forced);
    }
    table.finish();
}

#[test]
fn forced_down_limits_give_the_same_numbers() {
    let mut table = Table::new("rope");
    // A head takes 21 * 32 * 4 = 2688 bytes (and is bound in pairs or larger groups), a row of qkv 1152.
    for (binding, workgroups) in [(6 << 10, 64), (12 << 10, 3), (64 << 10, 4)] {
        let [(_, forced), _] = table.forced(binding, workgroups);
        check(&mut table, Shape { batch: 3, heads: 3, prefix: 5, patches: 16, head_dim: 32 }, forced);
    }
    table.finish();
}
