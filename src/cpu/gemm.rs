//! The `gemm` crate behind a safe, bounds-checked face.

use std::ops::Range;
use std::time::Instant;

use crate::tensor::Tensor;

/// Products along k are summed in panels of this length, each from zero: one f32 sum over thousands of products would cost half the accuracy of the
/// features (relative L2 against f64 2e-6 instead of 1e-6 on seeded weights).
const PANEL: usize = 128;

/// A strided matrix inside a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Contiguous rows of `cols` elements.
    pub fn rows_of(data: &'a [f32], cols: usize) -> Self {
        Self { data, rows: data.len() / cols, cols, row_stride: cols, col_stride: 1 }
    }

    /// A whole tensor: its innermost axis is a row.
    pub fn of(tensor: &'a Tensor) -> Self {
        Self::rows_of(tensor.data(), tensor.cols())
    }

    /// The same elements, rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Some of its columns, at least one.
    pub fn columns(self, range: Range<usize>) -> Self {
        assert!(range.start < range.end && range.end <= self.cols, "columns {range:?} of {}", self.cols);
        Self { data: &self.data[(range.start * self.col_stride).min(self.data.len())..], cols: range.len(), ..self }
    }

    /// Whether every element lies inside the slice.
    fn fits(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }
}

/// What the product is added to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing: what was there is overwritten.
    Zero,
    /// What is there.
    Sum,
}

/// Who computes a product.
#[derive(Clone, Copy)]
pub enum Threads {
    /// The calling thread, inside a loop that is parallel itself.
    One,
    /// All of rayon's.
    All,
}

/// `out (+)= scale * lhs * rhs`; lhs [m, k], rhs [k, n], out [m, n] contiguous.
///
/// # Panics
/// If the shapes do not fit together.
pub fn multiply(out: &mut [f32], start: Start, scale: f32, lhs: Matrix, rhs: Matrix, threads: Threads) {
    let k = lhs.cols;
    assert!(k > 0, "a product of nothing");
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    for first in (0..k).step_by(PANEL) {
        let panel = first..k.min(first + PANEL);
        let accumulate = first > 0 || start == Start::Sum;
        product(out, accumulate, scale, lhs.columns(panel.clone()), rhs.transposed().columns(panel).transposed(), parallelism);
    }
}

/// One call of the crate; k in one sum, as the crate sees fit.
fn product(out: &mut [f32], accumulate: bool, scale: f32, lhs: Matrix, rhs: Matrix, parallelism: gemm::Parallelism) {
    let (m, n, k) = (lhs.rows, rhs.cols, lhs.cols);
    assert!(rhs.rows == k && out.len() == m * n && lhs.fits() && rhs.fits(), "[{m}, {k}] x [{}, {n}] into {}", rhs.rows, out.len());
    #[allow(unsafe_code, reason = "the crate's only interface takes pointers; the assertion above keeps every access inside the slices")]
    // SAFETY: out holds m * n contiguous elements; lhs and rhs reach no further than their slices; out is borrowed mutably, so it overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// FLOP/s of one large product, all of k in one panel, with all threads: the best of several tries. What the machine can do for the whole model.
pub fn peak_flops() -> f64 {
    const SIDE: usize = 1024;
    const TRIES: usize = 10;
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let mut out = vec![0.0; SIDE * SIDE];
    let mut seconds = || {
        let started = Instant::now();
        product(&mut out, false, 1.0, Matrix::rows_of(&a, SIDE), Matrix::rows_of(&b, SIDE), gemm::Parallelism::Rayon(0));
        started.elapsed().as_secs_f64()
    };
    let least = (0..TRIES).map(|_| seconds()).fold(f64::INFINITY, f64::min);
    2.0 * (SIDE as f64).powi(3) / least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_equal_their_definition() {
        let values = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
        for [m, n, k] in [[1, 1, 1], [3, 5, 7], [33, 17, 65], [64, 200, 31], [2, 3, 300]] {
            let (a, b) = (values(m * k, 0.37), values(n * k, 0.91));
            let mut out = values(m * n, 0.11);
            let before = out.clone();
            multiply(&mut out, Start::Sum, 0.5, Matrix::rows_of(&a, k), Matrix::rows_of(&b, k).transposed(), Threads::All);
            for (i, (got, before)) in out.iter().zip(before).enumerate() {
                let dot: f64 = (0..k).map(|j| f64::from(a[i / n * k + j]) * f64::from(b[i % n * k + j])).sum();
                assert!((f64::from(*got) - f64::from(before) - 0.5 * dot).abs() < 1e-5, "[{m}, {n}, {k}] at {i}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "into")]
    fn a_short_output_is_refused() {
        multiply(&mut [0.0; 3], Start::Zero, 1.0, Matrix::rows_of(&[0.0; 4], 2), Matrix::rows_of(&[0.0; 4], 2), Threads::One);
    }
}
