//! Arrays of NumPy from and to the library's tensors.

use meddino::Tensor;
use numpy::ndarray::{ArrayD, IxDyn};
use numpy::{Element, IntoPyArray, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

/// Copies an array, of any strides, into row-major values. This is the only copy on the way in; after it, Python may
/// change the array.
///
/// # Errors
/// `MemoryError` if the memory for the copy cannot be had.
#[expect(clippy::needless_pass_by_value, reason = "the borrow of the array ends with the copy")]
pub fn values<T: Element + Copy>(array: PyReadonlyArrayDyn<'_, T>) -> PyResult<Vec<T>> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(array.len())
        .map_err(|problem| PyMemoryError::new_err(format!("an array of {:?}: {problem}", array.shape())))?;
    // `as_slice` also takes arrays in column-major order.
    match array.as_slice() {
        Ok(slice) if array.is_c_contiguous() => values.extend_from_slice(slice),
        _ => values.extend(array.as_array().iter().copied()),
    }
    Ok(values)
}

/// Copies an array into a tensor, as [`values`] does.
///
/// # Errors
/// As [`values`].
pub fn tensor(array: PyReadonlyArrayDyn<'_, f32>) -> PyResult<Tensor> {
    Ok(Tensor::new(array.shape().to_vec(), values(array)?))
}

/// Moves a tensor into an array, which then owns its memory.
pub fn array(py: Python<'_>, tensor: Tensor) -> Bound<'_, PyArrayDyn<f32>> {
    let shape = tensor.shape().to_vec();
    array_of(py, &shape, tensor.into_data())
}

/// Moves row-major `values` into an array of `shape`.
pub fn array_of<'py, T: Element>(py: Python<'py>, shape: &[usize], values: Vec<T>) -> Bound<'py, PyArrayDyn<T>> {
    ArrayD::from_shape_vec(IxDyn(shape), values).expect("a shape of its values").into_pyarray(py)
}
