//! Networks fine-tuned with nnU-Net: their results folder, and the processing steps that turn a scan into labels.
//!
//! Data flows `results` (plans, dataset, folds) -> `prepare` (crop, normalise, resample, pad) -> `tiles` (windows,
//! mirroring, Gaussian weights) -> the network -> `restore` (back to the scan's voxels, labels). One slice of a scan is
//! in memory at a time. Every step matches nnU-Net 2.5, except that scores are summed in f32, where nnU-Net sums them
//! in f16. Labels therefore differ where the best two scores are nearly equal. This module does not depend on any
//! device.

mod dataset;
mod json;
mod plans;
mod prepare;
mod reader;
mod resample;
mod restore;
mod results;
mod spacing;
mod tiles;

pub use dataset::{Dataset, Region};
pub use plans::{Configuration, CtNormalization};
pub use prepare::{Frame, Prepared};
pub use reader::Reader;
pub use restore::Segmented;
pub use results::{Folds, Network, Results};
pub use tiles::{TilePass, Tiling};
