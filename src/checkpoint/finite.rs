//! Refuses weights that are not finite.

use crate::tensor::Tensor;

/// Returns `tensor` if all its values are finite.
///
/// # Errors
/// If a value is NaN or infinite. The text continues a sentence whose subject is the tensor.
pub(super) fn finite(tensor: Tensor) -> Result<Tensor, String> {
    match tensor.data().iter().position(|v| !v.is_finite()) {
        None => Ok(tensor),
        Some(i) => {
            let v = tensor.data()[i];
            Err(format!("holds {v} at index {i}; every weight must be finite: the file is damaged or its training diverged"))
        }
    }
}
