//! A product in f32 by all threads, in blocks of two tiles by two: by Strassen's products where the operands are made of whole blocks, else tile by tile.

use std::cell::Cell;

use rayon::prelude::*;

use super::product::{COLS, PANEL, Panel, ROWS, Strips, Tile, pack, tile};
use super::strassen::{SEVEN, StripPanel, add_products, left_factors, right_factors};
use super::window::{Window, Windows};

/// Rows and columns of a block of the result.
const HIGH: usize = 2 * ROWS;
const WIDE: usize = 2 * COLS;
/// Pairs of panels whose right factors are made at a time: they stay in the second-level cache while all rows go by.
const PAIRS: usize = 3;

thread_local! {
    /// What a product makes on its way, kept for the next one: memory from the system would cost more than the sums.
    static LEFT: Cell<Vec<Panel>> = const { Cell::new(Vec::new()) };
    static WORK: Cell<Work> = const { Cell::new(Work { right: Vec::new(), tiles: Vec::new() }) };
}

/// A thread's own.
#[derive(Default)]
struct Work {
    right: Vec<[StripPanel; SEVEN]>,
    /// Blocks of the result, one above the other; a block's tiles are row-major.
    tiles: Vec<[Tile; 4]>,
}

/// The rows of a left operand: first the blocks, as left factors [K / 2 PANEL, SEVEN], then the tiles that make no block, in panels.
struct Left<'a> {
    data: &'a [Panel],
    blocks: usize,
    k: usize,
}

impl Left<'_> {
    fn block(&self, index: usize) -> Option<&[Panel]> {
        let length = SEVEN * self.k / (2 * PANEL);
        (index < self.blocks).then(|| &self.data[index * length..][..length])
    }

    /// Tile `index` of those that make no block.
    fn tile(&self, index: usize) -> &[Panel] {
        let length = self.k.div_ceil(PANEL);
        &self.data[self.blocks * SEVEN * self.k / (2 * PANEL) + index * length..][..length]
    }
}

/// x [M, K] and a weight in strips for y [M, N]: `finish(tile, column)` follows a product, and `store(y, row)` puts each of its rows where it belongs.
pub fn in_blocks(
    x: &[f32],
    strips: &Strips,
    y: &mut [f32],
    finish: &(impl Fn(&mut Tile, usize) + Sync),
    store: &(impl Fn(&mut [f32], &[f32]) + Sync),
) {
    let [k, n] = strips.shape();
    let m = x.len() / k;
    assert_eq!(m * n, y.len(), "[{m}, {n}]");
    let mut data = LEFT.take();
    let left = packed(x, k, n.is_multiple_of(WIDE), &mut data);
    // Enough tasks for all threads where the columns alone are too few.
    let across = n.div_ceil(WIDE);
    let down = (2 * rayon::current_num_threads()).div_ceil(across).clamp(1, m.div_ceil(HIGH));
    let high = m.div_ceil(down).next_multiple_of(HIGH);
    let y = Windows::new(y, n, high, WIDE);
    (0..m.div_ceil(high) * across).into_par_iter().for_each(|task| {
        let (part, column) = (task / across, task % across);
        let mut work = WORK.take();
        column_of_blocks(&left, part * high / HIGH, strips, column * 2, &mut y.take(part, column), &mut work, finish, store);
        WORK.set(work);
    });
    LEFT.set(data);
}

/// x [M, K] packed; in blocks if K consists of whole pairs of panels and `even` says the same of the columns.
fn packed<'a>(x: &[f32], k: usize, even: bool, data: &'a mut Vec<Panel>) -> Left<'a> {
    let tiles = x.len().div_ceil(ROWS * k);
    let blocks = if even && k.is_multiple_of(2 * PANEL) { tiles / 2 } else { 0 };
    let (block, single) = (SEVEN * k / (2 * PANEL), k.div_ceil(PANEL));
    data.resize(blocks * block + (tiles - 2 * blocks) * single, [[0.0; PANEL]; ROWS]);
    let (x_blocks, x_tiles) = x.split_at((blocks * HIGH * k).min(x.len()));
    let (in_blocks, in_tiles) = data.split_at_mut(blocks * block);
    if blocks > 0 {
        in_blocks.par_chunks_mut(block).zip(x_blocks.par_chunks(HIGH * k)).for_each(|(out, x)| {
            let (upper, lower) = x.split_at(ROWS * k);
            left_factors(upper, lower, k, out);
        });
    }
    in_tiles.par_chunks_mut(single).zip(x_tiles.par_chunks(ROWS * k)).for_each(|(out, x)| pack(x, k, out));
    Left { data, blocks, k }
}

/// The blocks of the result from `first` on, as many as the window holds, over strips `strip` and the next.
#[expect(clippy::too_many_arguments, reason = "a closure's body with a name")]
fn column_of_blocks(
    left: &Left,
    first: usize,
    strips: &Strips,
    strip: usize,
    window: &mut Window,
    work: &mut Work,
    finish: &impl Fn(&mut Tile, usize),
    store: &impl Fn(&mut [f32], &[f32]),
) {
    let [_, n] = strips.shape();
    let rows = window.rows();
    let Work { right, tiles } = work;
    tiles.clear();
    tiles.resize(rows.div_ceil(HIGH), [[0.0; ROWS * COLS]; 4]);
    let pair = [strip, strip + 1].map(|strip| (strip * COLS < n).then(|| strips.strip(strip)));
    if let ([Some(one), Some(two)], true) = (pair, first < left.blocks) {
        right.resize(PAIRS, [[0.0; PANEL * COLS]; SEVEN]);
        const LENGTH: usize = PAIRS * 2 * PANEL * COLS;
        for (chunk, (one, two)) in one.chunks(LENGTH).zip(two.chunks(LENGTH)).enumerate() {
            let right = &mut right[..one.len() / (2 * PANEL * COLS)];
            right_factors(one, two, right);
            for (i, tiles) in tiles.iter_mut().enumerate() {
                if let Some(block) = left.block(first + i) {
                    add_products(&block[chunk * PAIRS * SEVEN..][..right.len() * SEVEN], right, tiles);
                }
            }
        }
    }
    for (i, tiles) in tiles.iter_mut().enumerate() {
        for (at, tile_of) in tiles.iter_mut().enumerate() {
            let (row, strip, column) = (i * HIGH + at / 2 * ROWS, pair[at % 2], (strip + at % 2) * COLS);
            let (Some(strip), true) = (strip, row < rows) else { continue };
            if first + i >= left.blocks {
                tile(left.tile(2 * (first + i - left.blocks) + at / 2), strip, tile_of);
            }
            finish(tile_of, column);
            for (j, sums) in tile_of.chunks_exact(COLS).enumerate().take(rows - row) {
                let y = &mut window.row(row + j)[at % 2 * COLS..];
                let width = y.len().min(COLS);
                store(&mut y[..width], &sums[..width]);
            }
        }
    }
}
