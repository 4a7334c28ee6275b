//! Cutting an operation's rows so that each piece fits the device's bindings and grids.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::graph::Limits;

/// Cuts `0..rows` into as few ranges as fit. Every tensor in whose rows the operation is cut is named by its row's length in `row_lens`; a
/// range of rows of each can be bound: it is no longer than a binding may be, and starts where one may start. No range has more than
/// `most` rows, the reach of the largest grid.
///
/// # Errors
/// If not even the fewest rows at which a binding may start and end fit.
pub fn cut(limits: &Limits, label: &str, rows: usize, row_lens: &[usize], most: usize) -> Result<Vec<Range<usize>>> {
    let longest = row_lens.iter().copied().max().unwrap_or(0);
    let fit = match longest {
        0 => most,
        longest => most.min((limits.max_binding / 4) as usize / longest),
    };
    if rows <= fit {
        return Ok(std::iter::once(0..rows).collect());
    }
    let step = row_lens.iter().map(|&len| rows_between_starts(limits, len)).max().unwrap_or(1);
    let size = fit / step * step;
    if size == 0 {
        return Err(Error::gpu(format!(
            "{label}: {} rows of {longest} elements must run at once, and this device takes {fit}: it binds at most {} bytes and runs {} \
             workgroups along an axis; use a smaller image (--size), a device with wider limits, or --backend cpu",
            step.min(rows),
            limits.max_binding,
            limits.max_workgroups
        )));
    }
    Ok((0..rows).step_by(size).map(|start| start..rows.min(start + size)).collect())
}

/// The fewest rows of `len` elements whose bytes are a multiple of the alignment of bindings.
fn rows_between_starts(limits: &Limits, len: usize) -> usize {
    // Alignments are powers of two, so only the powers of two in a row's length count.
    let alignment = limits.alignment as usize;
    let row = 1 << (len * 4).trailing_zeros().min(alignment.trailing_zeros());
    alignment / row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_binding: u64) -> Limits {
        Limits { max_binding, ..Limits::DEFAULT }
    }

    fn ends(limits: &Limits, rows: usize, row_lens: &[usize], most: usize) -> Vec<usize> {
        let pieces = cut(limits, "x", rows, row_lens, most).unwrap();
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
    }

    #[test]
    fn what_cannot_be_cut_is_an_error_that_says_so() {
        let problem = cut(&limits(4096), "blocks.0.attn", 2, &[1025], 100).unwrap_err().to_string();
        assert!(problem.contains("blocks.0.attn") && problem.contains("4096 bytes") && problem.contains("--size"), "{problem}");
        // One row fits, but the second could not start where the first ends.
        assert!(cut(&limits(4096), "x", 2, &[1023], 100).is_err());
        assert!(cut(&limits(1 << 20), "x", 2, &[64], 0).is_err());
    }
}
