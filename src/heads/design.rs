//! The rows as a fit sees them: standardised, in f64, with a 1 for the intercept.

use super::rows::Rows;
use super::standard::Standard;
use crate::cpu::double;
use crate::error::Result;
use crate::parallel;

/// Bytes of a block in f64, which stays in the second-level cache while both products read it.
const BLOCK_BYTES: usize = 384 << 10;

/// The most parts that the rows are divided into. Each part has sums of its own, and the parts are added in order, so
/// that the result does not depend on the number of threads.
const PARTS: usize = 32;

/// Standardised rows [N, stride] in f64: D channels, then 1, then zeros.
pub(super) struct Design<'a> {
    rows: &'a dyn Rows,
    standard: &'a Standard,
    /// Length of a row, D + 1 and zeros.
    pub stride: usize,
    /// Rows of a block.
    block: usize,
}

impl<'a> Design<'a> {
    pub fn new(rows: &'a dyn Rows, standard: &'a Standard) -> Self {
        let stride = (rows.width() + 1).next_multiple_of(double::LANES);
        Self { rows, standard, stride, block: rows_of_block(stride) }
    }

    /// Returns the bytes that `threads` threads take for their blocks of rows of `width` channels: in f64, in f32, and as
    /// they are read. A part of the rows has `sums` bytes of its own.
    pub fn bytes(width: usize, threads: usize, sums: u64) -> u64 {
        let stride = (width + 1).next_multiple_of(double::LANES);
        let block = rows_of_block(stride) * (8 * stride + 8 * width);
        threads as u64 * block as u64 + PARTS as u64 * sums
    }

    /// Returns N.
    pub fn count(&self) -> usize {
        self.rows.count()
    }

    /// Returns D.
    pub fn width(&self) -> usize {
        self.rows.width()
    }

    /// Returns an empty block.
    pub fn buffer(&self) -> Block {
        Block { f32: Vec::new(), values: vec![0.0; self.block * self.stride], rows: 0 }
    }

    /// Reads rows `first` to `first + count` into `block`.
    pub fn read(&self, first: usize, count: usize, block: &mut Block) -> Result<()> {
        let (width, stride) = (self.width(), self.stride);
        let rows = self.rows.read(first, count, &mut block.f32)?;
        let padded = count.next_multiple_of(double::ROWS);
        block.values.resize(padded * stride, 0.0);
        for (row, out) in rows.chunks_exact(width).zip(block.values.chunks_exact_mut(stride)) {
            double::standardise(row, &self.standard.mean, &self.standard.scale, out);
            out[width] = 1.0;
            out[width + 1..].fill(0.0);
        }
        block.values[count * stride..].fill(0.0);
        block.rows = count;
        Ok(())
    }

    /// Passes all rows to `work`, block by block, with the number of the block's first row: in parts, each with sums of
    /// its own. Returns the parts' sums in order.
    pub fn fold<T: Send>(&self, new: impl Fn() -> T + Sync + Send, work: impl Fn(&mut T, usize, &Block) + Sync + Send) -> Result<Vec<T>> {
        let n = self.count();
        let part = n.div_ceil(PARTS).next_multiple_of(self.block);
        let sums = parallel::map(n.div_ceil(part), |index| {
            let (mut sums, mut block) = (new(), self.buffer());
            let end = n.min((index + 1) * part);
            for first in (index * part..end).step_by(self.block) {
                self.read(first, self.block.min(end - first), &mut block)?;
                work(&mut sums, first, &block);
            }
            Ok(sums)
        });
        sums.into_iter().collect()
    }

    /// Returns the mean of the rows' outer products, [stride, stride], from at most `most` rows that are evenly spread.
    pub fn gram(&self, most: usize) -> Result<Vec<f64>> {
        /// Each part has a matrix of its own.
        const PARTS: usize = 4;
        let blocks = self.count().div_ceil(self.block);
        let taken = blocks.min(most.div_ceil(self.block)).max(1);
        let parts = parallel::map(PARTS.min(taken), |part| -> Result<_> {
            let (mut gram, mut block, mut rows) = (vec![0.0; self.stride * self.stride], self.buffer(), 0);
            for index in (part..taken).step_by(PARTS) {
                let first = index * blocks / taken * self.block;
                self.read(first, self.block.min(self.count() - first), &mut block)?;
                double::add_outer(&block.values, &block.values, self.stride, &mut gram);
                rows += block.rows;
            }
            Ok((gram, rows))
        });
        let (mut sum, mut rows) = (vec![0.0; self.stride * self.stride], 0);
        for part in parts {
            let (gram, count) = part?;
            sum.iter_mut().zip(gram).for_each(|(sum, v)| *sum += v);
            rows += count;
        }
        sum.iter_mut().for_each(|v| *v /= rows as f64);
        Ok(sum)
    }
}

/// Returns the number of rows of `stride` values in a block.
fn rows_of_block(stride: usize) -> usize {
    (BLOCK_BYTES / (8 * stride)).clamp(2, 32) * double::ROWS
}

/// Some rows of a [`Design`].
pub(super) struct Block {
    f32: Vec<f32>,
    /// [rows, stride], and rows of zeros up to a multiple of four.
    pub values: Vec<f64>,
    /// Number of rows that are not padding.
    pub rows: usize,
}

impl Block {
    /// Number of rows with padding.
    pub fn padded(&self) -> usize {
        self.rows.next_multiple_of(double::ROWS)
    }
}
