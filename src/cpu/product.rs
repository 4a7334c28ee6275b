//! Matrix products of packed operands, the building blocks of every product of the model.
//!
//! The right operand is packed in [`Strips`] of [K, COLS], the left in [`Panel`]s. A tile, ROWS x COLS of the result,
//! is divided into blocks whose sums an instruction set has registers for:
//!
//! | set | registers | block |
//! |---|---|---|
//! | AVX-512 | 32 of 16 numbers | 12 x 32, the whole tile |
//! | AVX2 | 16 of 8 | 6 x 16 |
//! | NEON | 32 of 4 | 6 x 16 |
//! | WebAssembly | 15 of 4, as V8 has them on x86 | 4 x 8 |
//! | portable | the compiler decides | 4 x 8 |
//!
//! Each step along K multiplies one row of the strip by one value of each row of the left operand. Every sum of a
//! result has the same order for all blocks, and operands are packed in the same way.
#![allow(
    clippy::inline_always,
    reason = "what a function for an instruction set calls must be inlined into it, or it is compiled for the build's target"
)]
#![allow(clippy::needless_lifetimes, reason = "pulp's macro makes a struct of the arguments, which needs their lifetime named")]

use std::array::from_fn;

use pulp::Simd;
use rayon::prelude::*;

use super::ahead::Ahead;
use super::set::arch;

/// Rows of a tile.
pub const ROWS: usize = 12;
/// Columns of a tile: two registers of AVX-512.
pub const COLS: usize = 32;

/// Products along K are summed in panels of this length, each from zero. One f32 sum over thousands of products would
/// double the error of the features (relative L2 against f64 2e-6 instead of 1e-6 on seeded weights).
pub const PANEL: usize = 128;

/// Blocks of a tile with the registers of AVX2; no set but AVX-512 has fewer.
const BLOCKS: usize = 4;

/// Widths of left operands of [`add_products`] are multiples of this.
pub const CHANNELS: usize = 8;

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

    /// Part `part` of `count` parts of the strip after strip `index`; empty after the last strip.
    pub fn part_of_next(&self, index: usize, part: usize, count: usize) -> &[f32] {
        let next = &self.data[(index + 1) * self.k * COLS..];
        next[..next.len().min(self.k * COLS)].chunks((self.k * COLS).div_ceil(count)).nth(part).unwrap_or_default()
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

/// Computes a tile, `lhs strip`, from lhs [ceil(K / PANEL)] panels. Each panel is summed from zero. Meanwhile, the CPU
/// fetches `next`, which the next tiles will read.
///
/// With AVX-512 it fetches nothing, because that gained nothing: a block multiplies each number of the strip by twice as
/// many rows as with AVX2, so the CPU fetches early enough by itself.
#[pulp::with_simd(tile = arch())]
#[inline(always)]
pub fn tile_simd<'a, S: Simd>(simd: S, lhs: &'a [Panel], strip: &'a [f32], next: &'a [f32], out: &'a mut Tile) {
    let next = if S::F32_LANES == 16 { &[] } else { next };
    let mut ahead = Ahead::new(next, lhs.len() * BLOCKS);
    for (i, (panel, strip)) in lhs.iter().zip(strip.chunks(PANEL * COLS)).enumerate() {
        panel_simd(simd, panel, strip, i == 0, &mut ahead, out);
    }
}

/// `out = lhs strip` for the first panel, else `out += lhs strip`, with strip [K, COLS] and K at most LENGTH. Each
/// LENGTH is compiled separately, so that the compiler knows the rows' stride. Each block fetches a piece of `ahead`.
#[inline(always)]
pub fn panel_simd<S: Simd, const LENGTH: usize>(
    simd: S,
    lhs: &[[f32; LENGTH]; ROWS],
    strip: &[f32],
    is_first: bool,
    ahead: &mut Ahead,
    out: &mut Tile,
) {
    match S::F32_LANES {
        16 => blocks::<S, LENGTH, ROWS, 2>(simd, lhs, strip, is_first, ahead, out),
        4 if cfg!(target_arch = "aarch64") => blocks::<S, LENGTH, 6, 4>(simd, lhs, strip, is_first, ahead, out),
        4 if cfg!(target_arch = "wasm32") => blocks::<S, LENGTH, 4, 2>(simd, lhs, strip, is_first, ahead, out),
        8 | 4 => blocks::<S, LENGTH, 6, 2>(simd, lhs, strip, is_first, ahead, out),
        _ => blocks::<S, LENGTH, 4, 8>(simd, lhs, strip, is_first, ahead, out),
    }
}

/// [`panel_simd`] for R rows and VECTORS registers of columns at a time.
#[inline(always)]
fn blocks<S: Simd, const LENGTH: usize, const R: usize, const VECTORS: usize>(
    simd: S,
    lhs: &[[f32; LENGTH]; ROWS],
    strip: &[f32],
    is_first: bool,
    ahead: &mut Ahead,
    out: &mut Tile,
) {
    for (lhs, out) in lhs.as_chunks::<R>().0.iter().zip(out.chunks_exact_mut(R * COLS)) {
        for part in 0..COLS / (VECTORS * S::F32_LANES) {
            ahead.fetch();
            block::<S, LENGTH, R, VECTORS>(simd, lhs, strip, part, is_first, out);
        }
    }
}

/// [`panel_simd`] for R rows, and for part `part` of the columns, which is VECTORS registers. The sums stay in registers
/// throughout.
#[inline(always)]
fn block<S: Simd, const LENGTH: usize, const R: usize, const VECTORS: usize>(
    simd: S,
    lhs: &[[f32; LENGTH]; R],
    strip: &[f32],
    part: usize,
    is_first: bool,
    out: &mut [f32],
) {
    assert!(strip.len() <= LENGTH * COLS, "{} values for {LENGTH} rows", strip.len());
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    for (p, rhs) in strip.chunks_exact(COLS).enumerate().take(LENGTH) {
        multiply_add(simd, from_fn(|i| lhs[i][p]), part_of::<S, VECTORS>(rhs, part), &mut sums);
    }
    store::<S, R, VECTORS>(simd, &sums, part, is_first, out);
}

/// `out += lhs^T strip`, with out [W, COLS], lhs [K, W] and strip [K, COLS]. W is a multiple of [`CHANNELS`], and K is
/// summed in one go.
#[pulp::with_simd(add_products = arch())]
#[inline(always)]
pub fn add_products_simd<'a, S: Simd>(simd: S, lhs: &'a [f32], strip: &'a [f32], out: &'a mut [f32]) {
    match S::F32_LANES {
        16 => add_blocks::<S, 8, 2>(simd, lhs, strip, 0, out),
        4 if cfg!(target_arch = "aarch64") => {
            let rest = add_blocks::<S, 6, 4>(simd, lhs, strip, 0, out);
            add_blocks::<S, 2, 8>(simd, lhs, strip, rest, out)
        }
        4 if cfg!(target_arch = "wasm32") => add_blocks::<S, 4, 2>(simd, lhs, strip, 0, out),
        8 | 4 => {
            let rest = add_blocks::<S, 6, 2>(simd, lhs, strip, 0, out);
            add_blocks::<S, 2, 4>(simd, lhs, strip, rest, out)
        }
        _ => add_blocks::<S, 4, 8>(simd, lhs, strip, 0, out),
    };
}

/// [`add_products`] for groups of R columns of lhs from `first` on, as many as there are, and for VECTORS registers at
/// a time. Returns the first column that is left.
#[inline(always)]
fn add_blocks<S: Simd, const R: usize, const VECTORS: usize>(simd: S, lhs: &[f32], strip: &[f32], first: usize, out: &mut [f32]) -> usize {
    let width = out.len() / COLS;
    let groups = (width - first) / R;
    for (group, out) in out[first * COLS..].chunks_exact_mut(R * COLS).enumerate() {
        for part in 0..COLS / (VECTORS * S::F32_LANES) {
            add_block::<S, R, VECTORS>(simd, lhs, width, first + group * R, strip, part, out);
        }
    }
    first + groups * R
}

/// [`block`] for R columns of a left operand, from `first` on, added to what is there.
#[inline(always)]
fn add_block<S: Simd, const R: usize, const VECTORS: usize>(
    simd: S,
    lhs: &[f32],
    width: usize,
    first: usize,
    strip: &[f32],
    part: usize,
    out: &mut [f32],
) {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    for (lhs, rhs) in lhs.chunks_exact(width).zip(strip.chunks_exact(COLS)) {
        let lhs: &[f32; R] = lhs[first..first + R].try_into().expect("R columns");
        multiply_add(simd, *lhs, part_of::<S, VECTORS>(rhs, part), &mut sums);
    }
    store::<S, R, VECTORS>(simd, &sums, part, false, out);
}

/// `sums += lhs rhs`: one number a row, and VECTORS registers of columns.
#[inline(always)]
fn multiply_add<S: Simd, const R: usize, const VECTORS: usize>(
    simd: S,
    lhs: [f32; R],
    rhs: &[S::f32s; VECTORS],
    sums: &mut [[S::f32s; VECTORS]; R],
) {
    for i in 0..R {
        let a = simd.splat_f32s(lhs[i]);
        for j in 0..VECTORS {
            sums[i][j] = simd.mul_add_e_f32s(a, rhs[j], sums[i][j]);
        }
    }
}

/// Part `part` of a row of COLS, which is VECTORS registers.
#[inline(always)]
fn part_of<S: Simd, const VECTORS: usize>(row: &[f32], part: usize) -> &[S::f32s; VECTORS] {
    &S::as_simd_f32s(row).0.as_chunks().0[part]
}

/// `out = sums` for part `part` of the columns of out [R, COLS] if it is the first, else `out += sums`.
#[inline(always)]
fn store<S: Simd, const R: usize, const VECTORS: usize>(
    simd: S,
    sums: &[[S::f32s; VECTORS]; R],
    part: usize,
    is_first: bool,
    out: &mut [f32],
) {
    for (out, sums) in out.chunks_exact_mut(COLS).zip(sums) {
        let out = &mut S::as_mut_simd_f32s(out).0.as_chunks_mut::<VECTORS>().0[part];
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = if is_first { sum } else { simd.add_f32s(*out, sum) };
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
        for (k, m) in [(1, 12), (2, 1), (31, 11), (64, 12), (127, 2), (128, 12), (129, 7), (300, 12), (300, 31), (128, 24)] {
            let (rows, cols) = (values(m * k, 0.37), values((COLS - 5) * k, 0.91));
            let strips = Strips::of_transposed(&cols, k);
            let mut out = vec![[7.0; ROWS * COLS]; m.div_ceil(ROWS)];
            for (rows, out) in rows.chunks(ROWS * k).zip(&mut out) {
                let mut panels = vec![[[0.0; PANEL]; ROWS]; k.div_ceil(PANEL)];
                pack(rows, k, &mut panels);
                tile(&panels, strips.strip(0), &[], out);
            }
            for (i, got) in out.as_flattened().iter().enumerate().take(m * COLS) {
                let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                let want = rows.chunks(k).nth(i / COLS).zip(cols.chunks(k).nth(i % COLS)).map_or(0.0, dot);
                assert!((f64::from(*got) - want).abs() < 1e-5, "{k}: {got} for {want} at {i}");
            }
        }
    }

    #[test]
    fn the_parts_of_the_next_strip_make_it_up() {
        let k = 37;
        let strips = Strips::of_transposed(&values(3 * COLS * k, 0.91), k);
        for count in [1, 2, 5, 9, 18, 2000] {
            let parts = |index| (0..count).map(|part| strips.part_of_next(index, part, count)).collect::<Vec<_>>().concat();
            assert_eq!(parts(0), strips.strip(1));
            assert_eq!(parts(1), strips.strip(2));
            assert!(parts(2).is_empty());
        }
    }

    #[test]
    fn products_are_added_to_what_is_there() {
        let k = 37;
        for width in [8, 16, 24, 32, 64, 80] {
            let (lhs, strip) = (values(k * width, 0.37), values(k * COLS, 0.91));
            let mut out = values(width * COLS, 0.11);
            let before = out.clone();
            add_products(&lhs, &strip, &mut out);
            for (i, (got, before)) in out.iter().zip(before).enumerate() {
                let dot: f64 = (0..k).map(|p| f64::from(lhs[p * width + i / COLS]) * f64::from(strip[p * COLS + i % COLS])).sum();
                assert!((f64::from(*got) - f64::from(before) - dot).abs() < 1e-5, "{width} at {i}");
            }
        }
    }
}
