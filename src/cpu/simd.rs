//! Loops as wide as the machine allows, whatever the build's target. They are plain Rust that `pulp` compiles once for
//! each instruction set.
//!
//! Everything that such a loop calls must be inlined, or the compiler would compile it for the build's target alone.
//! For the same reason the loops use no closures. Rust neither reorders f32 arithmetic nor fuses a product with a sum
//! by itself, so all machines that can fuse give the same bits, whatever their width.
#![allow(clippy::inline_always, reason = "see above")]
#![allow(clippy::needless_lifetimes, reason = "pulp's macro makes a struct of the arguments, which needs their lifetime named")]

use pulp::Simd;

use super::product::{COLS, Tile};
use super::scalar;
use super::set::arch;

/// Partial sums of a reduction: two registers of AVX-512. The number is fixed, so that all machines give the same bits.
const LANES: usize = 32;

/// The sum of `(x - mean)^POWER` in f64, from `LANES` partial sums; POWER is 1 or 2.
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

/// The running softmax of some queries, one per lane, over the keys so far.
pub struct Softmax {
    /// Each query's largest score.
    largest: [f32; COLS],
    /// Each query's denominator, relative to its largest score.
    weight: [f32; COLS],
}

impl Softmax {
    /// The softmax over no key.
    pub fn new() -> Self {
        Self { largest: [f32::NEG_INFINITY; COLS], weight: [0.0; COLS] }
    }

    /// The denominator of column `index`.
    pub fn weight(&self, index: usize) -> f32 {
        self.weight[index]
    }
}

/// Replaces scores [keys, COLS] by `exp(score - m)`, with m the largest score of their column so far. Rescales `sums`
/// [.., COLS] from the previous m to the new one.
#[pulp::with_simd(softmax_columns = arch())]
#[inline(always)]
pub fn softmax_columns_simd<'a, S: Simd>(simd: S, scores: &'a mut [f32], softmax: &'a mut Softmax, sums: &'a mut [f32]) {
    if fuses::<S>() { step::<S, true>(simd, scores, softmax, sums) } else { step::<S, false>(simd, scores, softmax, sums) }
}

/// [`softmax_columns`]
#[inline(always)]
fn step<S: Simd, const FUSED: bool>(simd: S, scores: &mut [f32], softmax: &mut Softmax, sums: &mut [f32]) {
    let scores = scores.as_chunks_mut::<COLS>().0;
    let mut largest = softmax.largest;
    for row in &*scores {
        for i in 0..COLS {
            // Compares instead of calling `max`, so that a NaN is ignored here and reaches the exponentials below.
            largest[i] = if row[i] > largest[i] { row[i] } else { largest[i] };
        }
    }
    let mut rescale = [0.0; COLS];
    for i in 0..COLS {
        rescale[i] = scalar::exp_nonpositive::<FUSED>(softmax.largest[i] - largest[i]);
    }
    let mut added = [0.0; COLS];
    for row in scores {
        for i in 0..COLS {
            row[i] = scalar::exp_nonpositive::<FUSED>(row[i] - largest[i]);
            added[i] += row[i];
        }
    }
    for i in 0..COLS {
        softmax.weight[i] = softmax.weight[i] * rescale[i] + added[i];
    }
    softmax.largest = largest;
    // After a column's overall largest score, its factor is 1.
    if rescale.iter().any(|factor| factor.to_bits() != 1.0_f32.to_bits()) {
        let (factors, _) = S::as_simd_f32s(&rescale);
        for row in sums.as_chunks_mut::<COLS>().0 {
            // Explicit SIMD, because in a plain loop the compiler vectorises across rows, with gathers.
            let (row, _) = S::as_mut_simd_f32s(row);
            for i in 0..factors.len() {
                row[i] = simd.mul_f32s(row[i], factors[i]);
            }
        }
    }
}

/// `y = gelu(y)`
#[pulp::with_simd(gelu = arch())]
#[inline(always)]
pub fn gelu_simd<'a, S: Simd>(_simd: S, y: &'a mut [f32]) {
    for v in y {
        *v = if fuses::<S>() { scalar::gelu::<true>(*v) } else { scalar::gelu::<false>(*v) };
    }
}

/// `tile + bias`, where `bias` begins at the tile's first column.
#[pulp::with_simd(add_bias = arch())]
#[inline(always)]
pub fn add_bias_simd<'a, S: Simd>(_simd: S, tile: &'a mut Tile, bias: &'a [f32]) {
    let bias = columns(bias);
    for row in tile.as_chunks_mut::<COLS>().0 {
        for i in 0..COLS {
            row[i] += bias[i];
        }
    }
}

/// `gelu(tile + bias)`
#[pulp::with_simd(bias_gelu = arch())]
#[inline(always)]
pub fn bias_gelu_simd<'a, S: Simd>(_simd: S, tile: &'a mut Tile, bias: &'a [f32]) {
    let bias = columns(bias);
    for row in tile.as_chunks_mut::<COLS>().0 {
        for i in 0..COLS {
            let v = row[i] + bias[i];
            row[i] = if fuses::<S>() { scalar::gelu::<true>(v) } else { scalar::gelu::<false>(v) };
        }
    }
}

/// `(tile + bias) gamma`
#[pulp::with_simd(bias_scale = arch())]
#[inline(always)]
pub fn bias_scale_simd<'a, S: Simd>(simd: S, tile: &'a mut Tile, bias: &'a [f32], gamma: &'a [f32]) {
    let (bias, gamma) = (columns(bias), columns(gamma));
    let ((bias, _), (gamma, _)) = (S::as_simd_f32s(&bias), S::as_simd_f32s(&gamma));
    for row in tile.as_chunks_mut::<COLS>().0 {
        // Explicit SIMD, as above.
        let (row, _) = S::as_mut_simd_f32s(row);
        for i in 0..bias.len() {
            row[i] = simd.mul_f32s(simd.add_f32s(row[i], bias[i]), gamma[i]);
        }
    }
}

/// The first COLS values, padded with zeros.
#[inline(always)]
fn columns(values: &[f32]) -> [f32; COLS] {
    let mut columns = [0.0; COLS];
    for (column, v) in columns.iter_mut().zip(values) {
        *column = *v;
    }
    columns
}

/// Whether this instruction set multiplies and adds in one instruction, as
/// [`InstructionSet::is_fused`](super::set::InstructionSet::is_fused) says.
#[inline(always)]
fn fuses<S: Simd>() -> bool {
    !S::IS_SCALAR && cfg!(not(target_arch = "wasm32"))
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` into y, with mean and (biased) variance in f64, in two passes.
#[pulp::with_simd(layernorm = arch())]
#[inline(always)]
pub fn layernorm_simd<'a, S: Simd>(_simd: S, x: &'a [f32], weight: &'a [f32], bias: &'a [f32], eps: f32, y: &'a mut [f32]) {
    let n = x.len() as f64;
    let mean = moment::<1>(x, 0.0) / n;
    let var = moment::<2>(x, mean) / n;
    let scale = 1.0 / (var + f64::from(eps)).sqrt();
    for (((y, &v), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        *y = ((f64::from(v) - mean) * scale) as f32 * w + b;
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::InstructionSet;
    use super::*;

    #[test]
    fn moments_equal_their_definitions_at_every_length() {
        for n in 1..200 {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let exact: f64 = x.iter().map(|&v| f64::from(v)).sum();
            let squares: f64 = x.iter().map(|&v| (f64::from(v) - 0.5).powi(2)).sum();
            assert!((moment::<1>(&x, 0.0) - exact).abs() < 1e-12, "{n}");
            assert!((moment::<2>(&x, 0.5) - squares).abs() < 1e-12, "{n}");
        }
    }

    /// A column of scores, NaNs among them, through the softmax in steps.
    #[test]
    fn a_softmax_in_steps_is_a_softmax() {
        let scores: Vec<f32> = (0..7 * COLS).map(|i| (i as f32 * 0.37).sin() * 20.0 + (i / COLS) as f32 * 9.0).collect();
        let mut softmax = Softmax::new();
        // One sum a column: of the weights themselves.
        let mut sums = vec![0.0; COLS];
        for step in scores.chunks(3 * COLS) {
            let mut step = step.to_vec();
            softmax_columns(&mut step, &mut softmax, &mut sums);
            step.chunks_exact(COLS).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, v)| *s += v));
        }
        assert!(sums.iter().enumerate().all(|(i, s)| (s / softmax.weight(i) - 1.0).abs() < 1e-6), "{sums:?}");
        for i in 0..COLS {
            let column = || scores.iter().skip(i).step_by(COLS).map(|&v| f64::from(v));
            let largest = column().fold(f64::NEG_INFINITY, f64::max);
            let weight: f64 = column().map(|v| (v - largest).exp()).sum();
            assert!((f64::from(softmax.weight[i]) / weight - 1.0).abs() < 1e-6);
        }
        let mut scores = vec![0.0; COLS];
        scores[3] = f32::NAN;
        softmax_columns(&mut scores, &mut softmax, &mut sums);
        assert!(softmax.weight[3].is_nan() && softmax.weight[4].is_finite());
    }

    /// The instruction set chosen at run time changes no bit.
    #[test]
    #[cfg_attr(
        all(windows, target_env = "gnu"),
        ignore = "outside of the kernels, a fused product is a call of mingw's, which rounds twice"
    )]
    fn wide_loops_give_the_bits_of_plain_ones() {
        let x: Vec<f32> = (0..1001).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut wide = x.clone();
        gelu(&mut wide);
        let fused = InstructionSet::in_use().is_fused();
        assert_eq!(
            bits(&wide),
            bits(&x.iter().map(|&v| if fused { scalar::gelu::<true>(v) } else { scalar::gelu::<false>(v) }).collect::<Vec<_>>())
        );
    }
}
