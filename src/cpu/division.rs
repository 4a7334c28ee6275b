//! How work is divided into tasks, so that all threads have some and each task's operands stay cached.

use super::product::{COLS, ROWS};

/// Tiles below one another that one task computes for one strip of the weight.
///
/// With 768 columns, the rows of nine tiles fill a third of a second-level cache of 1 MB, and stay there while strip
/// after strip is read. Twice as many often do not, because some of their pages share cache sets.
const TASK_TILES: usize = 9;

/// How a product [M, N] is divided: its rows into bands, and each band into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// The most rows of a band. They are packed together, and are still cached when they are multiplied.
    pub band: usize,
    /// The most rows of a task. A task computes them for one strip of the weight.
    pub task: usize,
}

impl Division {
    /// The division of a product [m, n] that keeps `threads` threads busiest. Of equals it is the one with the fewest
    /// tasks, because every task reads its strip again.
    ///
    /// If there are eight strips for each thread, a product of two tasks' rows is one task high.
    pub fn of([m, n]: [usize; 2], threads: usize) -> Self {
        let (tiles, strips) = (m.div_ceil(ROWS).max(1), n.div_ceil(COLS).max(1));
        let is_one_band = tiles <= 2 * TASK_TILES;
        let least = if is_one_band && strips >= 8 * threads { 1 } else { 2 };
        // More than four tasks a thread gain little.
        let most = (4 * threads).div_ceil(strips).max(least);
        let best = (least..=most).map(|groups| Self::high(tiles, groups)).min_by_key(|division| division.time(tiles, strips, threads));
        best.expect("there is at least one number of tasks")
    }

    /// Bands of one height, of `groups` tasks below one another.
    fn high(tiles: usize, groups: usize) -> Self {
        let bands = tiles.div_ceil(TASK_TILES * groups.max(2));
        let band = tiles.div_ceil(bands);
        Self { band: band * ROWS, task: band.div_ceil(groups) * ROWS }
    }

    /// Tiles that the busiest thread computes, one after another.
    fn time(self, tiles: usize, strips: usize, threads: usize) -> usize {
        let (band, task) = (self.band / ROWS, self.task / ROWS);
        tiles.div_ceil(band) * (band.div_ceil(task) * strips).div_ceil(threads) * task
    }
}

/// The most blocks of queries, of `blocks` in each of `heads` heads, that one task of attention computes: 3, or fewer
/// where that would leave a thread without four tasks. A task reads the keys and values of its head once.
pub fn task_blocks(blocks: usize, heads: usize, threads: usize) -> usize {
    [3, 2].into_iter().find(|height| heads * blocks.div_ceil(*height) >= 4 * threads).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and columns of ViT-B's products at 224, 512 and 896 pixels, and for 16 images of 512.
    const SHAPES: [[usize; 2]; 12] = [
        [201, 768],
        [201, 2304],
        [201, 3072],
        [1029, 768],
        [1029, 2304],
        [1029, 3072],
        [3141, 768],
        [3141, 2304],
        [3141, 3072],
        [16_464, 768],
        [16_464, 2304],
        [16_464, 3072],
    ];

    /// The share of the threads' time in which they compute.
    fn share([m, n]: [usize; 2], threads: usize) -> f64 {
        let (tiles, strips) = (m.div_ceil(ROWS), n.div_ceil(COLS));
        (tiles * strips) as f64 / (threads * Division::of([m, n], threads).time(tiles, strips, threads)) as f64
    }

    #[test]
    fn few_threads_compute_bands_of_two_tasks() {
        for [m, n] in SHAPES {
            let Division { band, task } = Division::of([m, n], 2);
            assert!(band <= 18 * ROWS, "[{m}, {n}]: {band}");
            assert_eq!(task, if m <= 18 * ROWS { band } else { band.div_ceil(2).next_multiple_of(ROWS) }, "[{m}, {n}]");
        }
    }

    #[test]
    fn many_threads_all_have_work() {
        for threads in [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128] {
            for shape in SHAPES {
                let share = share(shape, threads);
                assert!(share >= 0.79, "{shape:?} on {threads} threads: {share:.2}");
            }
        }
    }

    #[test]
    fn every_shape_has_a_division() {
        for m in [0, 1, 11, 12, 13, 217, 5000] {
            for n in [1, 32, 33, 768] {
                for threads in [1, 3, 1000] {
                    let Division { band, task } = Division::of([m, n], threads);
                    assert!(task > 0 && task <= band && band % ROWS == 0 && task % ROWS == 0, "[{m}, {n}], {threads}: {band} {task}");
                }
            }
        }
    }

    #[test]
    fn attention_has_four_tasks_a_thread_where_it_can() {
        // 12 heads of ViT-B, 201 and 3141 tokens in blocks of 32.
        assert_eq!([2, 8, 12, 16, 64].map(|threads| task_blocks(7, 12, threads)), [3, 3, 2, 1, 1]);
        assert_eq!([2, 64, 128].map(|threads| task_blocks(99, 12, threads)), [3, 3, 2]);
        assert_eq!(task_blocks(0, 12, 2), 1);
    }
}
