//! Matrix products of packed operands, the building blocks of every product of the model.
//!
//! The right operand is packed in [`Strips`] of [K, COLS], the left in [`Panel`]s. A tile, ROWS x COLS of the result,
//! is summed in registers. Each step along K multiplies one row of the strip by one value of each row of the left
//! operand.
#![allow(
    clippy::inline_always,
    reason = "what a function for an instruction set calls must be inlined into it, or it is compiled for the build's target"
)]
#![allow(clippy::needless_lifetimes, reason = "pulp's macro makes a struct of the arguments, which needs their lifetime named")]

use pulp::{Arch, Simd};
use rayon::prelude::*;

/// Rows of a tile.
pub const ROWS: usize = 12;
/// Columns of a tile: two registers of AVX-512.
pub const COLS: usize = 32;

/// Products along K are summed in panels of this length, each from zero. One f32 sum over thousands of products would
/// double the error of the features (relative L2 against f64 2e-6 instead of 1e-6 on seeded weights).
pub const PANEL: usize = 128;

/// A panel of a left operand's ROWS rows. The stride is known at compile time, so one register addresses all rows.
pub type Panel = [[f32; PANEL]; ROWS];

/// A tile of a result, row-major.
pub type Tile = [f32; ROWS * COLS];

/// A matrix [K, N] as a right operand, in strips of [`COLS`] columns. Each strip is [K, COLS] row-major; the last is
/// padded with zeros.
#[derive(Clone, Debug)]
pub struct Strips {
    data: Vec<f32>,
    k: usize,
    n: usize,
}

impl Strips {
    /// Packs a matrix that is stored transposed, as [N, K] row-major, like a weight or keys.
    pub fn of_transposed(matrix: &[f32], k: usize) -> Self {
        let n = matrix.len() / k;
        let mut data = vec![0.0; n.div_ceil(COLS) * k * COLS];
        data.par_chunks_mut(k * COLS).zip(matrix.par_chunks(COLS * k)).for_each(|(strip, rows)| interleave::<COLS>(rows, k, 1.0, strip));
        Self { data, k, n }
    }

    /// `[K, N]`
    pub fn shape(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    /// Strip `index`: [K, COLS].
    pub fn strip(&self, index: usize) -> &[f32] {
        &self.data[index * self.k * COLS..][..self.k * COLS]
    }
}

/// Transposes at most WIDTH rows of length k, times `scale`, into [k, WIDTH]. Columns without a row keep their values.
pub fn interleave<const WIDTH: usize>(rows: &[f32], k: usize, scale: f32, out: &mut [f32]) {
    // Transposes some columns at a time, so that the cache lines being written stay cached until they are full.
    const COLUMNS: usize = 16;
    for first in (0..k).step_by(COLUMNS) {
        let columns = first..k.min(first + COLUMNS);
        for (i, row) in rows.chunks_exact(k).enumerate() {
            for (out, v) in out[first * WIDTH..].chunks_exact_mut(WIDTH).zip(&row[columns.clone()]) {
                out[i] = v * scale;
            }
        }
    }
}

/// Packs at most ROWS rows of length `k` into panels [ceil(K / PANEL)]. The rest of a panel keeps its values, which no
/// result uses.
pub fn pack(rows: &[f32], k: usize, out: &mut [Panel]) {
    for (i, row) in rows.chunks_exact(k).enumerate() {
        for (panel, out) in row.chunks(PANEL).zip(out.iter_mut()) {
            out[i][..panel.len()].copy_from_slice(panel);
        }
    }
}

/// Computes a tile, `lhs strip`, from lhs [ROWS, K] in panels, each summed from zero.
#[pulp::with_simd(tile = Arch::new())]
#[inline(always)]
pub fn tile_simd<'a, S: Simd>(simd: S, lhs: &'a [Panel], strip: &'a [f32], out: &'a mut Tile) {
    for (i, (panel, strip)) in lhs.iter().zip(strip.chunks(PANEL * COLS)).enumerate() {
        panel_simd(simd, panel, strip, i == 0, out);
    }
}

/// `out = lhs strip` for the first panel, else `out += lhs strip`, with strip [K, COLS] and K at most LENGTH. Each
/// LENGTH is compiled separately, so that the compiler knows the rows' stride.
#[inline(always)]
pub fn panel_simd<S: Simd, const LENGTH: usize>(simd: S, lhs: &[[f32; LENGTH]; ROWS], strip: &[f32], is_first: bool, out: &mut Tile) {
    match S::F32_LANES {
        16 => rows_in_groups::<S, LENGTH, ROWS, 2>(simd, lhs, strip, is_first, out),
        8 => rows_in_groups::<S, LENGTH, 3, 4>(simd, lhs, strip, is_first, out),
        4 => rows_in_groups::<S, LENGTH, 3, 8>(simd, lhs, strip, is_first, out),
        _ => rows_in_groups::<S, LENGTH, 1, 32>(simd, lhs, strip, is_first, out),
    }
}

/// [`panel_simd`] for R rows at a time.
#[inline(always)]
fn rows_in_groups<S: Simd, const LENGTH: usize, const R: usize, const VECTORS: usize>(
    simd: S,
    lhs: &[[f32; LENGTH]; ROWS],
    strip: &[f32],
    is_first: bool,
    out: &mut Tile,
) {
    for (lhs, out) in lhs.as_chunks::<R>().0.iter().zip(out.chunks_exact_mut(R * COLS)) {
        rows::<S, LENGTH, R, VECTORS>(simd, lhs, strip, is_first, out);
    }
}

/// [`panel_simd`] for R rows of VECTORS registers each. The sums stay in registers throughout.
#[inline(always)]
fn rows<S: Simd, const LENGTH: usize, const R: usize, const VECTORS: usize>(
    simd: S,
    lhs: &[[f32; LENGTH]; R],
    strip: &[f32],
    is_first: bool,
    out: &mut [f32],
) {
    assert!(strip.len() <= LENGTH * COLS, "{} values for {LENGTH} rows", strip.len());
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    for (p, rhs) in strip.chunks_exact(COLS).enumerate().take(LENGTH) {
        let rhs: &[S::f32s; VECTORS] = S::as_simd_f32s(rhs).0.try_into().expect("COLS values");
        for i in 0..R {
            let a = simd.splat_f32s(lhs[i][p]);
            for j in 0..VECTORS {
                sums[i][j] = simd.mul_add_e_f32s(a, rhs[j], sums[i][j]);
            }
        }
    }
    if is_first {
        for (out, sums) in out.chunks_exact_mut(COLS).zip(&sums) {
            S::as_mut_simd_f32s(out).0.copy_from_slice(sums);
        }
    } else {
        add(simd, &sums, out);
    }
}

/// `out += lhs^T strip`, with `out` [8, COLS] and columns `first..first + 8` of lhs [K, width]. K is summed in one go.
#[pulp::with_simd(add_eight = Arch::new())]
#[inline(always)]
pub fn add_eight_simd<'a, S: Simd>(simd: S, lhs: &'a [f32], width: usize, first: usize, strip: &'a [f32], out: &'a mut [f32]) {
    match S::F32_LANES {
        16 => columns::<S, 8, 2>(simd, lhs, width, first, strip, out),
        8 => (0..8).step_by(2).for_each(|i| columns::<S, 2, 4>(simd, lhs, width, first + i, strip, &mut out[i * COLS..])),
        4 => (0..8).step_by(2).for_each(|i| columns::<S, 2, 8>(simd, lhs, width, first + i, strip, &mut out[i * COLS..])),
        _ => (0..8).for_each(|i| columns::<S, 1, 32>(simd, lhs, width, first + i, strip, &mut out[i * COLS..])),
    }
}

/// [`rows`] for R columns of a left operand, from `first` on.
#[inline(always)]
fn columns<S: Simd, const R: usize, const VECTORS: usize>(
    simd: S,
    lhs: &[f32],
    width: usize,
    first: usize,
    strip: &[f32],
    out: &mut [f32],
) {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    for (lhs, rhs) in lhs.chunks_exact(width).zip(strip.chunks_exact(COLS)) {
        let lhs: &[f32; R] = lhs[first..first + R].try_into().expect("R columns");
        let rhs: &[S::f32s; VECTORS] = S::as_simd_f32s(rhs).0.try_into().expect("COLS values");
        for i in 0..R {
            let a = simd.splat_f32s(lhs[i]);
            for j in 0..VECTORS {
                sums[i][j] = simd.mul_add_e_f32s(a, rhs[j], sums[i][j]);
            }
        }
    }
    add(simd, &sums, out);
}

/// `out += sums`
#[inline(always)]
fn add<S: Simd, const R: usize, const VECTORS: usize>(simd: S, sums: &[[S::f32s; VECTORS]; R], out: &mut [f32]) {
    for (out, sums) in out.chunks_exact_mut(COLS).zip(sums) {
        for (out, &sum) in S::as_mut_simd_f32s(out).0.iter_mut().zip(sums) {
            *out = simd.add_f32s(*out, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn tiles_equal_their_definition_at_every_length() {
        for (k, m) in [(1, 12), (2, 1), (31, 11), (64, 12), (127, 2), (128, 12), (129, 7), (300, 12)] {
            let (rows, cols) = (values(m * k, 0.37), values((COLS - 5) * k, 0.91));
            let strips = Strips::of_transposed(&cols, k);
            let mut out = [7.0; ROWS * COLS];
            let mut panels = vec![[[0.0; PANEL]; ROWS]; k.div_ceil(PANEL)];
            pack(&rows, k, &mut panels);
            tile(&panels, strips.strip(0), &mut out);
            for (i, got) in out.iter().enumerate().take(m * COLS) {
                let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                let want = rows.chunks(k).nth(i / COLS).zip(cols.chunks(k).nth(i % COLS)).map_or(0.0, dot);
                assert!((f64::from(*got) - want).abs() < 1e-5, "{k}: {got} for {want} at {i}");
            }
        }
    }

    #[test]
    fn eight_columns_are_added_to_what_is_there() {
        let (k, width) = (37, 24);
        let (lhs, strip) = (values(k * width, 0.37), values(k * COLS, 0.91));
        for first in [0, 8, 16] {
            let mut out = values(8 * COLS, 0.11);
            let before = out.clone();
            add_eight(&lhs, width, first, &strip, &mut out);
            for (i, (got, before)) in out.iter().zip(before).enumerate() {
                let dot: f64 = (0..k).map(|p| f64::from(lhs[p * width + first + i / COLS]) * f64::from(strip[p * COLS + i % COLS])).sum();
                assert!((f64::from(*got) - f64::from(before) - dot).abs() < 1e-5, "{first} at {i}");
            }
        }
    }
}
