//! A fine-tuned network as nnU-Net leaves it: its results folder, and the steps around the network from a scan to
//! labels.
//!
//! Data flows `results` (plans, dataset, folds) -> `prepare` (crop, normalise, resample, pad) -> `tiles` (windows,
//! mirroring, Gaussian weights) -> the network -> `restore` (back to the scan's voxels, labels). Memory holds one slice
//! of a scan. Every step is nnU-Net 2.5's, except that scores are summed in f32, where nnU-Net sums them in f16, so
//! that labels differ where the best two scores nearly tie. This room knows no device.

mod dataset;
mod json;
mod plans;
mod prepare;
mod resample;
mod restore;
mod results;
mod spacing;
mod tiles;

pub use dataset::Dataset;
pub use plans::{Configuration, CtNormalization};
pub use prepare::{Frame, Prepared};
pub use restore::Segmented;
pub use results::{Folds, Network, Results};
pub use tiles::{TilePass, Tiling};
