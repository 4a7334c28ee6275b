//! Loops as wide as the machine allows, whatever the build's target: plain Rust, compiled once for each instruction set by `pulp`.
//!
//! Everything that such a loop calls must be inlined, or it would be compiled for the build's target alone; so it is written without closures.
//! Rust neither reorders f32 arithmetic nor fuses a product with a sum: the bits are the same whatever the width.
#![allow(clippy::inline_always, reason = "see above")]
#![allow(clippy::needless_lifetimes, reason = "the macro `with_simd` needs them named")]

use pulp::{Arch, Simd};

use super::scalar;

/// Partial results that a reduction keeps: enough for two registers of AVX-512, always as many, for the same bits everywhere.
const LANES: usize = 32;

/// The sum of f32 values, `LANES` partial sums of every `LANES`th first.
#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for i in 0..rest.len() {
        lanes[i] += rest[i];
    }
    lanes.iter().sum()
}

/// The largest value and `least`, NaNs left out.
#[inline(always)]
fn largest(x: &[f32], least: f32) -> f32 {
    let mut lanes = [least; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    for i in 0..rest.len() {
        lanes[i] = if rest[i] > lanes[i] { rest[i] } else { lanes[i] };
    }
    lanes.iter().fold(least, |a, &b| if b > a { b } else { a })
}

/// The sum of `(x - mean)^power` in f64, `LANES` partial sums first; power 1 or 2.
#[inline(always)]
fn moment<const POWER: usize>(x: &[f32], mean: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            let v = f64::from(chunk[i]) - mean;
            lanes[i] += if POWER == 2 { v * v } else { v };
        }
    }
    for i in 0..rest.len() {
        let v = f64::from(rest[i]) - mean;
        lanes[i] += if POWER == 2 { v * v } else { v };
    }
    lanes.iter().sum()
}

/// Scores become `exp(score - m)`, m the largest of them and `so_far`; gives m and their sum.
#[pulp::with_simd(softmax = Arch::new())]
#[inline(always)]
pub fn softmax_simd<'a, S: Simd>(_simd: S, scores: &'a mut [f32], so_far: f32) -> (f32, f32) {
    let m = largest(scores, so_far);
    for s in &mut *scores {
        *s = scalar::exp_nonpositive(*s - m);
    }
    (m, sum(scores))
}

/// `y = gelu(y)`
#[pulp::with_simd(gelu = Arch::new())]
#[inline(always)]
pub fn gelu_simd<'a, S: Simd>(_simd: S, y: &'a mut [f32]) {
    for v in y {
        *v = scalar::gelu(*v);
    }
}

/// `y = gelu(y + bias)`
#[pulp::with_simd(add_gelu = Arch::new())]
#[inline(always)]
pub fn add_gelu_simd<'a, S: Simd>(_simd: S, y: &'a mut [f32], bias: &'a [f32]) {
    for (v, b) in y.iter_mut().zip(bias) {
        *v = scalar::gelu(*v + b);
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias`, in place; mean and (biased) variance in f64, in two passes.
#[pulp::with_simd(layernorm = Arch::new())]
#[inline(always)]
pub fn layernorm_simd<'a, S: Simd>(_simd: S, x: &'a mut [f32], weight: &'a [f32], bias: &'a [f32], eps: f32) {
    let n = x.len() as f64;
    let mean = moment::<1>(x, 0.0) / n;
    let var = moment::<2>(x, mean) / n;
    let scale = 1.0 / (var + f64::from(eps)).sqrt();
    for ((v, &w), &b) in x.iter_mut().zip(weight).zip(bias) {
        *v = ((f64::from(*v) - mean) * scale) as f32 * w + b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_equal_their_definitions_at_every_length() {
        for n in 1..200 {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let exact: f64 = x.iter().map(|&v| f64::from(v)).sum();
            let squares: f64 = x.iter().map(|&v| (f64::from(v) - 0.5).powi(2)).sum();
            assert!((f64::from(sum(&x)) - exact).abs() < 1e-5 && (moment::<1>(&x, 0.0) - exact).abs() < 1e-12, "{n}");
            assert!((moment::<2>(&x, 0.5) - squares).abs() < 1e-12, "{n}");
            assert_eq!(x.iter().fold(-0.9, |a: f32, &b| a.max(b)).to_bits(), largest(&x, -0.9).to_bits(), "{n}");
        }
        assert!(sum(&[1.0, f32::NAN]).is_nan());
        assert_eq!(largest(&[f32::NAN, 2.0], 1.0).to_bits(), 2.0_f32.to_bits());
    }

    /// The instruction set chosen at run time changes no bit.
    #[test]
    fn wide_loops_give_the_bits_of_plain_ones() {
        let x: Vec<f32> = (0..1001).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut wide = x.clone();
        gelu(&mut wide);
        assert_eq!(bits(&wide), bits(&x.iter().map(|&v| scalar::gelu(v)).collect::<Vec<_>>()));
        let (mut wide, m) = (x.clone(), largest(&x, 0.0));
        let (seen, total) = softmax(&mut wide, 0.0);
        let plain: Vec<f32> = x.iter().map(|&v| scalar::exp_nonpositive(v - m)).collect();
        assert_eq!((bits(&wide), seen.to_bits(), total.to_bits()), (bits(&plain), m.to_bits(), sum(&plain).to_bits()));
    }
}
