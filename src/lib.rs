//! MedDINOv3 features from CT scans, on any GPU or none.

pub mod archive;
pub mod backbone;
pub mod checkpoint;
pub mod cpu;
pub mod ct;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod output;
pub mod tensor;
pub mod verify;
pub mod vit;

pub use error::{Error, Result};
pub use tensor::Tensor;
