//! Operands in bf16, as [`super::dot`] multiplies them.
//!
//! Two neighbours along K form a pair in one `u32`, the first in the low half. A row of K numbers is ceil(K/2) pairs;
//! an odd K is padded with a zero.
#![allow(
    clippy::inline_always,
    reason = "what a function for an instruction set calls must be inlined into it, or it is compiled for the build's target"
)]
#![allow(clippy::needless_lifetimes, reason = "pulp's macro makes a struct of the arguments, which needs their lifetime named")]

use pulp::Simd;
use rayon::prelude::*;

use super::product::{COLS, interleave};
use super::set::arch;

/// The bf16 nearest to v, ties to even. The code has no branch, so that the compiler vectorises loops over it.
#[inline(always)]
fn round(v: f32) -> u32 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    if v.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    round(first) | round(second) << 16
}

/// Pairs the neighbours within each row of length k: [.., ceil(k / 2)].
pub fn pairs_along(rows: &[f32], k: usize) -> Vec<u32> {
    // Rows of one task, so many that the task is worth its overhead.
    const TASK: usize = 16;
    let half = k.div_ceil(2);
    let mut out = vec![0; rows.len() / k * half];
    out.par_chunks_mut(TASK * half).zip(rows.par_chunks(TASK * k)).for_each(|(out, rows)| along(rows, k, out));
    out
}

#[pulp::with_simd(along = arch())]
#[inline(always)]
fn along_simd<'a, S: Simd>(_simd: S, rows: &'a [f32], k: usize, out: &'a mut [u32]) {
    for (out, row) in out.chunks_exact_mut(k.div_ceil(2)).zip(rows.chunks_exact(k)) {
        let (twos, rest) = row.as_chunks::<2>();
        for (out, two) in out.iter_mut().zip(twos) {
            *out = pair(two[0], two[1]);
        }
        if let (Some(out), &[last]) = (out.last_mut(), rest) {
            *out = pair(last, 0.0);
        }
    }
}

/// Pairs each even row of `width` with the row below it, an odd last row with zeros: [ceil(rows / 2), width].
#[pulp::with_simd(pairs_down = arch())]
#[inline(always)]
pub fn pairs_down_simd<'a, S: Simd>(_simd: S, rows: &'a [f32], width: usize, out: &'a mut [u32]) {
    for (out, two) in out.chunks_exact_mut(width).zip(rows.chunks(2 * width)) {
        let (first, second) = two.split_at(width);
        if second.is_empty() {
            for (out, v) in out.iter_mut().zip(first) {
                *out = pair(*v, 0.0);
            }
        } else {
            for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
                *out = pair(*first, *second);
            }
        }
    }
}

/// A matrix [K, N] as a right operand, in strips like [`super::product::Strips`]. Each strip is [K/2, COLS] pairs.
#[derive(Clone, Debug)]
pub struct Pairs {
    data: Vec<u32>,
    k: usize,
    n: usize,
}

impl Pairs {
    /// Packs a matrix that is stored transposed, as [N, K] row-major, like a weight.
    pub fn of_transposed(matrix: &[f32], k: usize) -> Self {
        let n = matrix.len() / k;
        let half = k.div_ceil(2);
        let mut data = vec![0; n.div_ceil(COLS) * half * COLS];
        data.par_chunks_mut(half * COLS).zip(matrix.par_chunks(COLS * k)).for_each(|(strip, rows)| {
            let mut wide = vec![0.0; k * COLS];
            interleave::<COLS>(rows, k, 1.0, &mut wide);
            pairs_down(&wide, COLS, strip);
        });
        Self { data, k, n }
    }

    /// `[K, N]`
    pub fn shape(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    /// Strip `index`: [K/2, COLS] pairs.
    pub fn strip(&self, index: usize) -> &[u32] {
        let len = self.k.div_ceil(2) * COLS;
        &self.data[index * len..][..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(pair: u32) -> [f32; 2] {
        [pair << 16, pair & 0xFFFF_0000].map(f32::from_bits)
    }

    #[test]
    fn numbers_are_rounded_as_half_rounds_them() {
        let mut state = 1_u32;
        for i in 0..100_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Ties, infinities and subnormals among them.
            for bits in [state, state & 0xFFFF_8000, i << 16 | 0x8000, 0x7F80_0000 | i & 1 << 31] {
                let v = f32::from_bits(bits);
                let got = f32::from_bits(round(v) << 16);
                assert!(v.is_nan() && got.is_nan() || got.to_bits() == half::bf16::from_f32(v).to_f32().to_bits(), "{v:e}: {got:e}");
            }
        }
    }

    #[test]
    fn pairs_are_neighbours_and_an_odd_one_stands_beside_a_zero() {
        let rows: Vec<f32> = (1..=15).map(|v| v as f32).collect();
        let along: Vec<_> = pairs_along(&rows, 5).into_iter().map(two).collect();
        assert_eq!(along[..3], [[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]);
        assert_eq!(along[6..], [[11.0, 12.0], [13.0, 14.0], [15.0, 0.0]]);
        let mut down = [0; 10];
        pairs_down(&rows, 5, &mut down);
        let down = down.map(two);
        assert_eq!(down[..2], [[1.0, 6.0], [2.0, 7.0]]);
        assert_eq!(down[8..], [[14.0, 0.0], [15.0, 0.0]]);
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "these numbers bf16 holds")]
    fn a_strip_holds_columns() {
        let (k, n) = (7, COLS + 3);
        let matrix: Vec<f32> = (0..n * k).map(|v| v as f32).collect();
        let pairs = Pairs::of_transposed(&matrix, k);
        let strip: Vec<_> = pairs.strip(1).iter().map(|&pair| two(pair)).collect();
        let at = |column: usize, p: usize| half::bf16::from_f32(matrix[(COLS + column) * k + p]).to_f32();
        assert_eq!(strip[COLS + 2], [at(2, 2), at(2, 3)]);
        assert_eq!(strip[3 * COLS], [at(0, 6), 0.0]);
        assert_eq!(strip[3], [0.0, 0.0]);
    }
}
