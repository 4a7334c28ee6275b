//! Divides a matrix among threads in rectangles.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

/// A row-major matrix cut into windows of `height` x `width`, each of which can be taken once.
///
/// Rust's slices can be divided by rows alone. A product may have too few rows for all threads, so its tasks divide
/// columns as well.
pub struct Windows<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    height: usize,
    width: usize,
    /// For each window, whether it is taken.
    taken: Vec<AtomicBool>,
    borrowed: PhantomData<&'a mut [f32]>,
}

/// One window of a matrix, which no other thread can access.
pub struct Window<'a> {
    /// The window's first element.
    first: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

#[allow(unsafe_code, reason = "a slice cannot be split by columns")]
// SAFETY: a shared `Windows` hands out each window once, and no two windows overlap. f32 may move between threads.
unsafe impl Sync for Windows<'_> {}

impl<'a> Windows<'a> {
    /// Divides `matrix`, whose rows have `cols` elements.
    pub fn new(matrix: &'a mut [f32], cols: usize, height: usize, width: usize) -> Self {
        assert!(cols > 0 && height > 0 && width > 0 && matrix.len().is_multiple_of(cols), "{} elements in rows of {cols}", matrix.len());
        let rows = matrix.len() / cols;
        let taken = (0..rows.div_ceil(height) * cols.div_ceil(width)).map(|_| AtomicBool::new(false)).collect();
        Self { data: matrix.as_mut_ptr(), rows, cols, height, width, taken, borrowed: PhantomData }
    }

    /// The window in row `down` and column `across` of the windows.
    ///
    /// # Panics
    /// If there is no such window, or it is taken.
    pub fn take(&self, down: usize, across: usize) -> Window<'_> {
        let (row, col) = (down * self.height, across * self.width);
        assert!(row < self.rows && col < self.cols, "window ({down}, {across}) of {} x {}", self.rows, self.cols);
        let taken = self.taken[down * self.cols.div_ceil(self.width) + across].swap(true, Ordering::Relaxed);
        assert!(!taken, "window ({down}, {across}) is taken");
        #[allow(unsafe_code, reason = "a slice cannot be split by columns")]
        // SAFETY: (row, col) is inside the matrix, as the assertion says.
        let first = unsafe { self.data.add(row * self.cols + col) };
        let (rows, cols) = (self.height.min(self.rows - row), self.width.min(self.cols - col));
        Window { first, rows, cols, stride: self.cols, borrowed: PhantomData }
    }
}

impl Window<'_> {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The window's part of row `index`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        #[allow(unsafe_code, reason = "a slice cannot be split by columns")]
        // SAFETY: the row is inside the window, and the window is inside the matrix and no other thread's. `&mut self`
        // keeps a row from being borrowed twice.
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(index * self.stride), self.cols)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_belongs_to_one_window() {
        for (rows, cols, height, width) in [(1, 1, 1, 1), (5, 7, 2, 3), (12, 32, 12, 32), (13, 33, 12, 32), (3, 100, 50, 32)] {
            let mut matrix = vec![0.0; rows * cols];
            let windows = Windows::new(&mut matrix, cols, height, width);
            std::thread::scope(|scope| {
                for down in 0..rows.div_ceil(height) {
                    for across in 0..cols.div_ceil(width) {
                        let windows = &windows;
                        scope.spawn(move || {
                            let mut window = windows.take(down, across);
                            for row in 0..window.rows() {
                                window.row(row).iter_mut().enumerate().for_each(|(i, v)| {
                                    *v += ((down * height + row) * cols + across * width + i) as f32 + 1.0;
                                });
                            }
                        });
                    }
                }
            });
            assert!(matrix.iter().enumerate().all(|(i, &v)| (v - i as f32 - 1.0).abs() < 0.5), "{rows} x {cols}");
        }
    }

    #[test]
    #[should_panic(expected = "is taken")]
    fn a_window_is_taken_once() {
        let mut matrix = [0.0; 4];
        let windows = Windows::new(&mut matrix, 2, 1, 1);
        let _first = windows.take(1, 1);
        windows.take(1, 1);
    }

    #[test]
    #[should_panic(expected = "row 1 of 1")]
    fn no_row_beyond_the_last() {
        let mut matrix = [0.0; 3];
        Windows::new(&mut matrix, 1, 2, 1).take(1, 0).row(1);
    }
}
