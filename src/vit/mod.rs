//! The model: its sizes, its parameters and its forward pass. This module knows no file format and no device.

pub(crate) mod arriving;
pub mod config;
pub mod decoder;
pub mod features;
pub mod forward;
mod infer;
pub mod layers;
pub mod model;
pub mod rope;
pub mod scores;
#[cfg(feature = "files")]
pub mod source;
pub mod summary;
pub mod weights;
