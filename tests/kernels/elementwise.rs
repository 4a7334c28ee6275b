//! `gelu` and `layernorm`.

use meddino::graph::Limits;
use meddino::vit::weights::Norm;
use meddino::{Tensor, cpu};

use crate::cases::{Table, Tolerance, noise};

/// The exact GELU.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

fn check_gelu(table: &mut Table, name: &str, limits: Limits, x: &[f32]) {
    let want: Vec<f64> = x.iter().map(|&x| gelu(f64::from(x))).collect();
    let tolerance = Tolerance { atol: 4e-7, rtol: 4e-7, l2: 2e-7 };
    let mut twin = x.to_vec();
    cpu::gelu(&mut twin);
    table.twin(name, tolerance, &want, &twin);
    table.check(name, limits, tolerance, &want, |case| {
        let x = case.input("x", &[x.len()], x);
        Ok(vec![case.recorder.gelu("gelu", x)?])
    });
}

#[test]
fn gelu_is_exact_over_its_whole_range() {
    let mut table = Table::new("gelu");
    let [(_, own), _] = table.variants();
    // Every 1/4096 of [-16, 16], then very large and very small values.
    let mut x: Vec<f32> = (-65_536..=65_536).map(|i| i as f32 / 4096.0).collect();
    x.extend([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4, 1e30, -1e30, f32::MAX, f32::MIN]);
    check_gelu(&mut table, "the real line", own, &x);
    for n in [1, 3, 4, 255, 256, 257, 260] {
        check_gelu(&mut table, &format!("{n} elements"), own, &noise(n as u64, n));
    }
    let [(_, forced), _] = table.forced(4 << 10, 3);
    check_gelu(&mut table, "cut", forced, &noise(9, 5003));
    check_gelu(&mut table, "cut by fours", forced, &noise(9, 5004));
    table.finish();
}

/// Computes the exact LayerNorm of rows of `weight`'s length.
pub fn layernorm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f64> {
    let (c, mut rows) = (weight.len() as f64, Vec::with_capacity(x.len()));
    for row in x.chunks_exact(weight.len()) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / c;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / c;
        let scale = 1.0 / (variance + f64::from(eps)).sqrt();
        rows.extend(row.iter().zip(weight).zip(bias).map(|((&v, &w), &b)| (f64::from(v) - mean) * scale * f64::from(w) + f64::from(b)));
    }
    rows
}

fn check_layernorm(table: &mut Table, limits: Limits, rows: usize, c: usize) {
    // The mean is far from 0, and the spread differs from row to row. The variance of every fourth row is below eps.
    let value = |(i, v): (usize, &f32)| if i / c % 4 == 3 { 1e-3 * v } else { 3.0 + v * (1 + i / c % 5) as f32 };
    let x: Vec<f32> = noise(1, rows * c).iter().enumerate().map(value).collect();
    let (weight, bias, eps) = (noise(2, c), noise(3, c), 1e-6);
    let want = layernorm(&x, &weight, &bias, eps);
    let tolerance = Tolerance { atol: 1e-6, rtol: 1e-6, l2: 4e-7 };
    let norm = Norm { weight: Tensor::new([c], weight.clone()), bias: Tensor::new([c], bias.clone()) };
    let twin = Tensor::filled_by(|y| cpu::layernorm(&Tensor::new([1, rows, c], x.clone()), &norm, eps, y));
    table.twin(&format!("{rows} x {c}"), tolerance, &want, twin.data());
    let name = format!("{} over {}, {rows} x {c}, bindings of {}", limits.tier, limits.elem.name(), limits.max_binding);
    table.check(&name, limits, tolerance.stored(limits.elem), &want, |case| {
        let x = case.input("x", &[1, rows, c], &x);
        let (weight, bias) = (case.input("weight", &[c], &weight), case.input("bias", &[c], &bias));
        Ok(vec![case.recorder.layernorm("layernorm", x, weight, bias, eps)?])
    });
}

#[test]
fn layernorm_of_rows_of_any_length() {
    let mut table = Table::new("layernorm");
    let [(_, own), _] = table.variants();
    for c in [1, 4, 5, 7, 8, 12, 24, 48, 63, 64, 65, 192, 252, 256, 260, 384, 516, 768] {
        for rows in [1, 4, 67] {
            check_layernorm(&mut table, own, rows, c);
        }
    }
    check_layernorm(&mut table, own, 201, 768);
    check_layernorm(&mut table, own, 1029, 128);
    // Invocations keep at most 8 packs in registers: rows of that many, with and without a rest, and longer rows.
    for c in [511, 513, 2044, 2048, 2052] {
        check_layernorm(&mut table, own, 3, c);
    }
    for (_, tier) in table.tiers() {
        for c in [4, 5, 20, 63, 64, 65, 252, 256, 516, 768, 2048, 2052] {
            check_layernorm(&mut table, tier, 5, c);
        }
        check_layernorm(&mut table, Limits { max_binding: 8 << 10, max_workgroups: 64, ..tier }, 131, 20);
    }
    for (_, forced) in table.forced(8 << 10, 20) {
        for c in [65, 20, 128] {
            check_layernorm(&mut table, Limits { max_workgroups: 64, ..forced }, 131, c);
            check_layernorm(&mut table, Limits { max_binding: 64 << 10, max_workgroups: 64, ..forced }, 131, c);
        }
        check_layernorm(&mut table, Limits { max_binding: 64 << 10, max_workgroups: 3, ..forced }, 300, 8);
    }
    table.finish();
}
