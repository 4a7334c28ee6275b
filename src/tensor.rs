//! A host tensor: a shape and f32 values in row-major order. This file does not depend on models, files or devices.

use std::fmt;

use crate::count::values_in;
use crate::parallel;

/// Row-major f32 values with a shape. Weights, images and features have this type on the host.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// Makes a tensor of `shape` from `data`.
    ///
    /// # Panics
    /// If the product of `shape` is not `data.len()`, which is a programmer's mistake.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(values_in(&shape), Some(data.len()), "shape {shape:?} does not hold {} values", data.len());
        Self { shape, data }
    }

    /// Makes a tensor of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; counted(&shape)];
        Self { shape, data }
    }

    /// Makes an empty tensor, for a later [`Tensor::resize`].
    pub fn empty() -> Self {
        Self::zeros([0])
    }

    /// Makes an empty tensor and lets `write` fill it: `Tensor::filled_by(|y| layernorm(&x, &norm, eps, y))`.
    pub fn filled_by(write: impl FnOnce(&mut Self)) -> Self {
        let mut tensor = Self::empty();
        write(&mut tensor);
        tensor
    }

    /// Changes the shape and keeps the memory, which grows if needed. Returns the values for the caller to write; until
    /// then they are arbitrary.
    pub fn resize(&mut self, shape: impl Into<Vec<usize>>) -> &mut [f32] {
        self.shape = shape.into();
        self.data.resize(counted(&self.shape), 0.0);
        &mut self.data
    }

    /// Returns the extent of each axis, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Returns the values, row-major, for writing.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Returns the values without the shape.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// Returns the same values with another shape.
    ///
    /// # Panics
    /// If the shapes hold different numbers of values.
    #[must_use]
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Self {
        Self::new(shape, self.data)
    }

    /// Returns whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        // The compiler vectorises a loop without an early exit, so each chunk is checked to its end.
        const CHUNK: usize = 1 << 16;
        let finite = |chunk: &[f32]| chunk.iter().fold(true, |all, v| all & v.is_finite());
        parallel::all_chunks(&self.data, CHUNK, finite)
    }

    /// Returns the extent of the innermost axis, which is the length of a row (1 for a scalar).
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Returns the number of rows, which is the product of all axes but the innermost.
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }
}

/// A borrowed shape and borrowed row-major f32 values. Functions that only read values take `impl Into<TensorView>`,
/// which is a `&Tensor` or a view of the caller's own memory, so that nothing is copied.
///
/// ```
/// use meddino::ct::{Size, Window, prepare};
/// use meddino::TensorView;
///
/// let hu: &[f32] = &[-1000.0, 0.0, 40.0, 1000.0]; // an array of the caller's
/// let image = prepare(TensorView::new(&[2, 2], hu), &Window::DEMO, Size::Square(32));
/// assert_eq!(image.shape(), [1, 1, 32, 32]);
/// ```
#[derive(Clone, Copy, PartialEq)]
pub struct TensorView<'a> {
    shape: &'a [usize],
    data: &'a [f32],
}

impl<'a> TensorView<'a> {
    /// Makes a view of `data` as a tensor of `shape`.
    ///
    /// # Panics
    /// If the product of `shape` is not `data.len()`, which is a programmer's mistake.
    pub fn new(shape: &'a [usize], data: &'a [f32]) -> Self {
        assert_eq!(values_in(shape), Some(data.len()), "shape {shape:?} does not hold {} values", data.len());
        Self { shape, data }
    }

    /// Returns the extent of each axis, outermost first.
    pub fn shape(self) -> &'a [usize] {
        self.shape
    }

    /// Returns the values, row-major.
    pub fn data(self) -> &'a [f32] {
        self.data
    }

    /// Returns the extent of the innermost axis, which is the length of a row (1 for a scalar).
    pub fn cols(self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Returns the number of rows, which is the product of all axes but the innermost.
    pub fn rows(self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// Copies the shape and the values into a [`Tensor`].
    pub fn to_tensor(self) -> Tensor {
        Tensor { shape: self.shape.to_vec(), data: self.data.to_vec() }
    }
}

impl<'a> From<&'a Tensor> for TensorView<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self { shape: &tensor.shape, data: &tensor.data }
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorView{:?}", self.shape)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}", self.shape)
    }
}

fn counted(shape: &[usize]) -> usize {
    values_in(shape).unwrap_or_else(|| panic!("shape {shape:?} has more values than this machine can count"))
}

/// Returns the relative L2 distance of `got` from `want`, `|got - want| / |want|`, with sums in f64: 0 for the same
/// values, NaN if any value is NaN.
///
/// # Panics
/// If the lengths differ, which is a programmer's mistake.
pub fn relative_l2<W: Copy + Into<f64>>(got: &[f32], want: &[W]) -> f64 {
    assert_eq!(got.len(), want.len(), "two versions of a tensor must have the same size");
    let square = |v: f64| v * v;
    let error: f64 = got.iter().zip(want).map(|(&got, &want)| square(f64::from(got) - want.into())).sum();
    let norm: f64 = want.iter().map(|&want| square(want.into())).sum();
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::relative_l2;

    #[test]
    fn a_distance_is_relative_to_the_wanted_values() {
        assert!((relative_l2(&[3.0, 4.0], &[3.0_f64, 5.0]) - (1.0_f64 / 34.0).sqrt()).abs() < 1e-15);
        assert_eq!(relative_l2(&[0.0, 0.0], &[0.0_f32, 0.0]).to_bits(), 0.0_f64.to_bits(), "the same values");
        assert!(relative_l2(&[1.0], &[0.0_f32]).is_infinite());
        assert!(relative_l2(&[f32::NAN, 1.0], &[1.0_f32, 1.0]).is_nan() && relative_l2(&[1.0, 1.0], &[1.0, f32::NAN]).is_nan());
    }
}
