//! Maps of features: values for each patch, or each pixel, for visual inspection. This module computes the values;
//! `picture` (with the feature of that name) draws them.
//!
//! ```
//! use meddino::Tensor;
//! use meddino::maps::cosine;
//!
//! let tokens = Tensor::new([3, 2], vec![1.0, 0.0, 0.0, 2.0, 3.0, 3.0]); // [P, C]
//! let map = cosine(&tokens, &[1.0, 0.0]); // [P]
//! assert_eq!(map.data()[..2], [1.0, 0.0]);
//! ```
//!
//! - [`cosine`]: the similarity of tokens to one of them.
//! - [`Basis`]: three principal components. Fitting needs the feature `pictures`; storing and applying do not.
//! - [`Mesh`]: which patch a pixel of the slice belongs to.

mod basis;
#[cfg(feature = "files")]
mod basis_file;
mod mesh;
#[cfg(feature = "pictures")]
mod moments;
mod similarity;

pub use basis::Basis;
#[cfg(feature = "files")]
pub use basis_file::BasisFile;
pub use mesh::Mesh;
#[cfg(feature = "pictures")]
pub use moments::Moments;
pub use similarity::cosine;

use crate::tensor::TensorView;

/// Returns the smallest and the largest value of a map.
///
/// # Panics
/// If the map is empty.
pub fn limits<'a>(map: impl Into<TensorView<'a>>) -> (f32, f32) {
    let map = map.into();
    assert!(!map.data().is_empty(), "a map holds values");
    map.data().iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}
