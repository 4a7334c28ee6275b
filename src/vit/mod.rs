//! The model: its sizes, its parameters and its forward pass. It knows no file format and no device.

pub mod config;
pub mod features;
pub mod rope;
pub mod weights;
