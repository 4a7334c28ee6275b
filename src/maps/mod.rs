//! From features to maps: numbers a patch, or a pixel, that people can look at. No picture is made here; `picture`
//! (with the feature of that name) makes it.
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
//! - [`cosine`]: how alike tokens are to one of them.
//! - [`Basis`]: three principal components; fitted with the feature `pictures`, stored and applied without it.
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

/// The least and the greatest value of a map.
///
/// # Panics
/// If there is none.
pub fn limits<'a>(map: impl Into<TensorView<'a>>) -> (f32, f32) {
    let map = map.into();
    assert!(!map.data().is_empty(), "a map holds values");
    map.data().iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}
