//! Many scans: finds them, names them, and processes each once into an output folder.

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
