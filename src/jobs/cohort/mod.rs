//! Many scans: which there are, what they are called, and a folder of outputs that each goes into once.

mod folder;
mod inputs;
mod manifest;
mod names;
mod pattern;
mod search;
mod shard;

pub use folder::{CohortReport, OutputFolder, Outputs, Settings};
pub use inputs::{Cohort, one_case};
pub use manifest::{Manifest, Work};
pub use names::Names;
pub use pattern::Pattern;
pub use shard::Shard;
