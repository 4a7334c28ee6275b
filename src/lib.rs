//! MedDINOv3 features from CT scans, on any GPU or none.

#[cfg(any())]
pub mod backbone;
pub mod checkpoint;
pub mod cpu;
#[cfg(feature = "readers")]
pub mod ct;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod output;
pub mod tensor;
pub mod vit;

pub use error::{Error, Result};
pub use tensor::Tensor;
