//! Products of large operands with an eighth of the multiplications left out: one level of Strassen's algorithm over pairs of tiles.
//!
//! Two tiles of rows of the left operand and two strips of the right one, each cut along K into panels taken two by two, are 2 x 2 blocks of whole tiles:
//! `C = A B` of such blocks takes seven products of sums of blocks instead of eight products of blocks (V. Strassen, Numerische Mathematik 13, 1969):
//!
//!     M1 = (A11 + A22) (B11 + B22)        C11 += M1 + M4 - M5 + M7
//!     M2 = (A21 + A22) B11                C12 += M3 + M5
//!     M3 = A11 (B12 - B22)                C21 += M2 + M4
//!     M4 = A22 (B21 - B11)                C22 += M1 - M2 + M3 + M6
//!     M5 = (A11 + A12) B22
//!     M6 = (A21 - A11) (B11 + B12)
//!     M7 = (A12 - A22) (B21 + B22)
//!
//! Sums of blocks cost a rounding each, so a result is about twice as far from the exact one as that of eight products; tests hold products to f64, and
//! features to PyTorch's, as before. The plain statement is in [`super::matmul`]: a tile without a partner is computed by it.
#![allow(
    clippy::inline_always,
    reason = "what a function for an instruction set calls must be inlined into it, or it is compiled for the build's target"
)]
#![allow(clippy::needless_lifetimes, reason = "pulp's macro makes a struct of the arguments, which needs their lifetime named")]

use pulp::{Arch, Simd};

use super::product::{COLS, PANEL, Panel, ROWS, Tile, panel_simd};

/// Products of 2 x 2 blocks.
pub const SEVEN: usize = 7;

/// A panel of a strip: [PANEL, COLS].
pub type StripPanel = [f32; PANEL * COLS];

/// Into which blocks of C, row-major, each product goes, and whether it is added or taken off.
const USES: [&[(usize, f32)]; SEVEN] = [
    &[(0, 1.0), (3, 1.0)],
    &[(2, 1.0), (3, -1.0)],
    &[(1, 1.0), (3, 1.0)],
    &[(0, 1.0), (2, 1.0)],
    &[(0, -1.0), (1, 1.0)],
    &[(3, 1.0)],
    &[(0, 1.0)],
];

/// Left factors of the seven products for all pairs of panels of two tiles of rows: upper and lower [ROWS, K], of which lower may lack rows (zeros then);
/// out [K / 2 PANEL, SEVEN].
#[pulp::with_simd(left_factors = Arch::new())]
#[inline(always)]
pub fn left_factors_simd<'a, S: Simd>(_simd: S, upper: &'a [f32], lower: &'a [f32], k: usize, out: &'a mut [Panel]) {
    let nothing = [0.0; 2 * PANEL];
    for (q, out) in out.as_chunks_mut::<SEVEN>().0.iter_mut().enumerate() {
        for i in 0..ROWS {
            let row = |rows: &'a [f32]| rows.get(i * k + q * 2 * PANEL..).and_then(|row| row.first_chunk::<{ 2 * PANEL }>());
            let (a1, a2) = (row(upper).unwrap_or(&nothing), row(lower).unwrap_or(&nothing));
            for p in 0..PANEL {
                let (a11, a12, a21, a22) = (a1[p], a1[PANEL + p], a2[p], a2[PANEL + p]);
                let factors = [a11 + a22, a21 + a22, a11, a22, a11 + a12, a21 - a11, a12 - a22];
                for (out, factor) in out.iter_mut().zip(factors) {
                    out[i][p] = factor;
                }
            }
        }
    }
}

/// Right factors, of the same pairs of panels of two strips [K', COLS]; out [K' / 2 PANEL, SEVEN].
#[pulp::with_simd(right_factors = Arch::new())]
#[inline(always)]
pub fn right_factors_simd<'a, S: Simd>(_simd: S, left: &'a [f32], right: &'a [f32], out: &'a mut [[StripPanel; SEVEN]]) {
    let pairs = left.as_chunks::<{ 2 * PANEL * COLS }>().0.iter().zip(right.as_chunks::<{ 2 * PANEL * COLS }>().0);
    for (out, (b1, b2)) in out.iter_mut().zip(pairs) {
        for p in 0..PANEL * COLS {
            let (b11, b12, b21, b22) = (b1[p], b2[p], b1[PANEL * COLS + p], b2[PANEL * COLS + p]);
            let factors = [b11 + b22, b11, b12 - b22, b21 - b11, b22, b11 + b12, b21 + b22];
            for (out, factor) in out.iter_mut().zip(factors) {
                out[p] = factor;
            }
        }
    }
}

/// The four tiles of C, row-major, plus what the products of `left` [Q, SEVEN] and `right` [Q, SEVEN] come to.
#[pulp::with_simd(add_products = Arch::new())]
#[inline(always)]
pub fn add_products_simd<'a, S: Simd>(simd: S, left: &'a [Panel], right: &'a [[StripPanel; SEVEN]], tiles: &'a mut [Tile; 4]) {
    for (product, uses) in USES.iter().enumerate() {
        let mut sums: Tile = [0.0; ROWS * COLS];
        for (q, (left, right)) in left.as_chunks::<SEVEN>().0.iter().zip(right).enumerate() {
            panel_simd(simd, &left[product], &right[product], q == 0, &mut sums);
        }
        for &(tile, sign) in *uses {
            for (c, sum) in tiles[tile].iter_mut().zip(&sums) {
                *c += sign * sum;
            }
        }
    }
}
