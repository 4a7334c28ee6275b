//! Products in f64 for fits, whose objective needs more digits than f32 has. A matrix has few columns of results
//! (classes) and long rows (channels), so both products run along the channels.
//!
//! Rows have a common `stride`, a multiple of [`LANES`]; what a row does not use is zero. The sums of a product have the
//! same order for all numbers of threads, but not for all instruction sets.
#![allow(
    clippy::inline_always,
    reason = "what a function for an instruction set calls must be inlined into it, or it is compiled for the build's target"
)]
#![allow(clippy::needless_lifetimes, reason = "pulp's macro makes a struct of the arguments, which needs their lifetime named")]

use std::array::from_fn;

use pulp::Simd;

use super::set::arch;

/// The numbers of a row are padded with zeros to a multiple of this: two registers of AVX-512.
pub const LANES: usize = 16;

/// The rows of a left operand are padded with zeros to a multiple of this.
pub const ROWS: usize = 4;

/// Writes `x w^T` to out [M, K], for x [M, stride] and w [K, stride]. M is a multiple of [`ROWS`].
#[pulp::with_simd(dots = arch())]
#[inline(always)]
pub fn dots_simd<'a, S: Simd>(simd: S, x: &'a [f64], w: &'a [f64], stride: usize, out: &'a mut [f64]) {
    let k = w.len() / stride;
    let mut first = 0;
    while first < k {
        let left = k - first;
        // AVX2 has registers for eight sums, the other sets for twenty.
        first += match (S::F64_LANES, left) {
            (4, 4..) => dot_columns::<S, 2, 4>(simd, x, w, stride, first, out),
            (_, 5..) => dot_columns::<S, 4, 5>(simd, x, w, stride, first, out),
            (_, 3..) => dot_columns::<S, 4, 3>(simd, x, w, stride, first, out),
            (_, 2) => dot_columns::<S, 4, 2>(simd, x, w, stride, first, out),
            _ => dot_columns::<S, 4, 1>(simd, x, w, stride, first, out),
        };
    }
}

/// [`dots`] for K columns of the result from `first` on, R rows at a time. Returns K.
#[inline(always)]
fn dot_columns<S: Simd, const R: usize, const K: usize>(
    simd: S,
    x: &[f64],
    w: &[f64],
    stride: usize,
    first: usize,
    out: &mut [f64],
) -> usize {
    let columns = w.len() / stride;
    let w: [&[S::f64s]; K] = from_fn(|k| S::as_simd_f64s(&w[(first + k) * stride..][..stride]).0);
    let steps = stride / S::F64_LANES;
    for (x, out) in x.chunks_exact(R * stride).zip(out.chunks_exact_mut(R * columns)) {
        let x: [&[S::f64s]; R] = from_fn(|r| S::as_simd_f64s(&x[r * stride..][..stride]).0);
        let mut sums = [[simd.splat_f64s(0.0); K]; R];
        for i in 0..steps {
            for r in 0..R {
                for k in 0..K {
                    sums[r][k] = simd.mul_add_e_f64s(x[r][i], w[k][i], sums[r][k]);
                }
            }
        }
        for r in 0..R {
            for k in 0..K {
                out[r * columns + first + k] = simd.reduce_sum_f64s(sums[r][k]);
            }
        }
    }
    K
}

/// `g += r^T x` for g [K, stride], r [M, K] and x [M, stride].
#[pulp::with_simd(add_outer = arch())]
#[inline(always)]
pub fn add_outer_simd<'a, S: Simd>(simd: S, r: &'a [f64], x: &'a [f64], stride: usize, g: &'a mut [f64]) {
    let k = g.len() / stride;
    let mut first = 0;
    while first < k {
        let left = k - first;
        first += match (S::F64_LANES, left) {
            (4, 4..) => outer_rows::<S, 4, 2>(simd, r, x, stride, first, g),
            (_, 5..) => outer_rows::<S, 5, 2>(simd, r, x, stride, first, g),
            (_, 3..) => outer_rows::<S, 3, 2>(simd, r, x, stride, first, g),
            (_, 2) => outer_rows::<S, 2, 2>(simd, r, x, stride, first, g),
            _ => outer_rows::<S, 1, 2>(simd, r, x, stride, first, g),
        };
    }
}

/// [`add_outer`] for K rows of the result from `first` on, VECTORS registers of columns at a time. Returns K.
#[inline(always)]
fn outer_rows<S: Simd, const K: usize, const VECTORS: usize>(
    simd: S,
    r: &[f64],
    x: &[f64],
    stride: usize,
    first: usize,
    g: &mut [f64],
) -> usize {
    let columns = g.len() / stride;
    let width = VECTORS * S::F64_LANES;
    for part in (0..stride).step_by(width) {
        let mut sums: [[S::f64s; VECTORS]; K] = from_fn(|k| *vectors::<S, VECTORS>(&g[(first + k) * stride + part..][..width]));
        for (r, x) in r.chunks_exact(columns).zip(x.chunks_exact(stride)) {
            let r: &[f64; K] = r[first..first + K].try_into().expect("K values");
            let x = vectors::<S, VECTORS>(&x[part..part + width]);
            for k in 0..K {
                let scale = simd.splat_f64s(r[k]);
                for v in 0..VECTORS {
                    sums[k][v] = simd.mul_add_e_f64s(scale, x[v], sums[k][v]);
                }
            }
        }
        for k in 0..K {
            let to = S::as_mut_simd_f64s(&mut g[(first + k) * stride + part..][..width]).0;
            to.copy_from_slice(&sums[k]);
        }
    }
    K
}

#[inline(always)]
fn vectors<S: Simd, const VECTORS: usize>(values: &[f64]) -> &[S::f64s; VECTORS] {
    S::as_simd_f64s(values).0.try_into().expect("VECTORS registers")
}

/// Writes `(x - mean) * scale` to the first values of `out`.
#[pulp::with_simd(standardise = arch())]
#[inline(always)]
pub fn standardise_simd<'a, S: Simd>(_simd: S, x: &'a [f32], mean: &'a [f64], scale: &'a [f64], out: &'a mut [f64]) {
    let n = x.len();
    let (mean, scale, out) = (&mean[..n], &scale[..n], &mut out[..n]);
    for i in 0..n {
        out[i] = (f64::from(x[i]) - mean[i]) * scale[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, step: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * step).sin()).collect()
    }

    #[test]
    fn products_in_f64_equal_their_definition() {
        for (m, k, stride) in [(4, 1, 16), (8, 2, 32), (12, 3, 48), (4, 4, 16), (8, 5, 64), (64, 9, 80), (4, 10, 16), (4, 13, 32)] {
            let (x, w, r) = (values(m * stride, 0.37), values(k * stride, 0.91), values(m * k, 0.53));
            let mut out = vec![7.0; m * k];
            dots(&x, &w, stride, &mut out);
            for (i, got) in out.iter().enumerate() {
                let want: f64 = (0..stride).map(|j| x[i / k * stride + j] * w[i % k * stride + j]).sum();
                assert!((got - want).abs() < 1e-13 * stride as f64, "dots {m} {k} {stride} at {i}: {got} for {want}");
            }
            let mut g = values(k * stride, 0.11);
            let before = g.clone();
            add_outer(&r, &x, stride, &mut g);
            for (i, got) in g.iter().enumerate() {
                let want: f64 = before[i] + (0..m).map(|row| r[row * k + i / stride] * x[row * stride + i % stride]).sum::<f64>();
                assert!((got - want).abs() < 1e-13 * m as f64, "add_outer {m} {k} {stride} at {i}: {got} for {want}");
            }
        }
    }

    #[test]
    fn values_are_standardised() {
        let (x, mut out) = ([1.0_f32, 2.0, 3.0], [9.0; 5]);
        standardise(&x, &[1.0, 1.0, 1.0], &[2.0, 2.0, 0.5], &mut out);
        assert!(out.iter().zip([0.0, 2.0, 1.0, 9.0, 9.0]).all(|(got, want): (&f64, f64)| got.to_bits() == want.to_bits()), "{out:?}");
    }
}
