//! Cuts an operation's rows into pieces that fit the device's bindings and grids, and that are short enough.

use std::ops::Range;

use super::Recorder;
use crate::advice::CPU;
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{Cost, Limits};

/// Cuts `0..rows` into as few ranges as possible. `row_bytes` holds the bytes of a row of each tensor that is cut by
/// rows. Each range of rows can be bound in each of these tensors: it is no longer than the largest binding and starts
/// at a multiple of the alignment. No range has more than `most` rows, which the largest grid covers. No range has more
/// than `wanted` rows either, unless the alignment forces it to.
///
/// # Errors
/// If not even the fewest rows that the alignment allows fit.
pub fn cut(limits: &Limits, label: &str, rows: usize, row_bytes: &[usize], most: usize, wanted: usize) -> Result<Vec<Range<usize>>> {
    let longest = row_bytes.iter().copied().max().unwrap_or(0);
    let fit = match longest {
        0 => most,
        longest => most.min(limits.max_binding as usize / longest),
    };
    if rows <= fit.min(wanted) {
        return Ok(std::iter::once(0..rows).collect());
    }
    let step = row_bytes.iter().map(|&bytes| rows_between_starts(limits, bytes)).max().unwrap_or(1);
    // Alignment overrides the requested size.
    let size = fit.min(wanted.max(step)) / step * step;
    if size == 0 {
        return Err(Error::gpu(
            GpuFailure::TooLarge,
            format!(
                "{label}: {} rows of {longest} bytes must run at once, and this device takes {fit}: it binds at most {} bytes and runs {} \
             workgroups along an axis; use a smaller image (`size`), a device with wider limits, or {CPU}",
                step.min(rows),
                limits.max_binding,
                limits.max_workgroups
            ),
        ));
    }
    Ok((0..rows).step_by(size).map(|start| start..rows.min(start + size)).collect())
}

impl Recorder {
    /// Returns how many rows of this cost keep a dispatch within [`Limits::max_work`]: whole tiles, and at least one
    /// tile.
    pub(super) fn affordable(&self, row_cost: Cost, tile: usize) -> usize {
        let rows = self.limits.max_work.map_or(usize::MAX, |most| (most / row_cost.work().max(1)) as usize);
        (rows / tile * tile).max(tile)
    }
}

/// Returns the fewest rows of `bytes` each whose total is a multiple of the alignment of bindings.
pub(super) fn rows_between_starts(limits: &Limits, bytes: usize) -> usize {
    // Alignments are powers of two, so only the power of two in a row's length matters.
    let alignment = limits.alignment as usize;
    let row = 1 << bytes.trailing_zeros().min(alignment.trailing_zeros());
    alignment / row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_binding: u64) -> Limits {
        Limits { max_binding, ..Limits::DEFAULT }
    }

    /// Rows of f32.
    fn ends(limits: &Limits, rows: usize, row_lens: &[usize], most: usize) -> Vec<usize> {
        let row_bytes: Vec<usize> = row_lens.iter().map(|len| 4 * len).collect();
        let pieces = cut(limits, "x", rows, &row_bytes, most, usize::MAX).unwrap();
        assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start) && pieces[0].start == 0, "{pieces:?}");
        pieces.iter().map(|piece| piece.end).collect()
    }

    #[test]
    fn what_fits_is_one_piece_and_pieces_are_aligned() {
        assert_eq!(ends(&limits(4096), 16, &[64], 100), [16]);
        assert_eq!(ends(&limits(4096), 17, &[64], 100), [16, 17]);
        // Rows of 20 elements start at multiples of 256 bytes every 16 rows; 51 rows would fit.
        assert_eq!(ends(&limits(4096), 60, &[20], 100), [48, 60]);
        assert_eq!(ends(&limits(4096), 40, &[20, 5], 100), [40]);
        assert_eq!(ends(&limits(1 << 20), 100, &[64, 1], 70), [64, 100]);
        assert_eq!(ends(&limits(4096), 100, &[], 70), [70, 100]);
        // Rows of 20 f16 start at such multiples every 32 rows.
        assert_eq!(cut(&limits(4096), "x", 110, &[2 * 20], 200, usize::MAX).unwrap(), [0..96, 96..110]);
    }

    #[test]
    fn what_takes_long_is_cut_as_far_as_it_can_be_bound() {
        let pieces = |wanted| cut(&limits(1 << 20), "x", 60, &[80], 100, wanted).unwrap().into_iter().map(|p| p.end).collect::<Vec<_>>();
        assert_eq!(pieces(60), [60]);
        assert_eq!(pieces(40), [32, 60]);
        assert_eq!(pieces(1), [16, 32, 48, 60], "rows of 80 bytes start at multiples of 256 every 16 rows");
        let slow = Recorder::new(Limits { max_work: Some(1000), ..Limits::DEFAULT });
        assert_eq!([1, 10, 64].map(|tile| slow.affordable(Cost { flops: 10, bytes: 1 }, tile)), [25, 20, 64]);
        assert!(Recorder::new(Limits::DEFAULT).affordable(Cost { flops: 10, bytes: 1 }, 16) > usize::MAX / 2);
    }

    #[test]
    fn what_cannot_be_cut_is_an_error_that_says_so() {
        let problem = cut(&limits(4096), "blocks.0.attn", 2, &[4 * 1025], 100, usize::MAX).unwrap_err().to_string();
        assert!(problem.contains("blocks.0.attn") && problem.contains("4096 bytes") && problem.contains("`size`"), "{problem}");
        // One row fits, but the second could not start where the first ends.
        assert!(cut(&limits(4096), "x", 2, &[4 * 1023], 100, usize::MAX).is_err());
        assert!(cut(&limits(1 << 20), "x", 2, &[4 * 64], 0, usize::MAX).is_err());
    }
}
