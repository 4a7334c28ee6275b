//! Whole jobs: scans in, features or labels out, into files or into memory. What the `meddino` command does, for any program.
//!
//! A job is a recipe with its model loaded, and takes one input after another, as [`FeatureJob`] shows. A batch is as large as the memory allows,
//! and slices are read, computed and written at the same time. A job that was cut off goes on where it was. An [`Observer`] hears of progress,
//! notes and warnings, and may cancel the job.
//!
//! - [`Input`]: an open scan, from a file or from memory; [`Case`]: a scan by its file; [`Cohort`]: many of them.
//! - [`Recipe`] and [`FeatureJob`]: features, into files and into memory.
//! - [`SegmentRecipe`] and [`SegmentJob`]: labels, by a network that was fine-tuned within nnU-Net, into files and into memory.
//! - [`Scene`] and [`TokenSource`]: patch tokens of some slices, computed or out of a file, for maps and pictures.
//! - [`OutputFolder`]: a job over many cases, each once, with a [`Manifest`] of what is finished.

mod case;
mod cohort;
mod engine;
mod features;
mod input;
mod memory;
mod name;
mod observer;
mod pipeline;
mod reads;
mod scene;
mod segment;
mod slices;
mod spool;
mod system;
mod text;
mod tokens;
mod weights;

pub use case::Case;
pub use cohort::{Cohort, CohortReport, Manifest, Names, OutputFolder, Outputs, Pattern, Settings, Shard, Work, one_case};
pub use engine::{Engine, ModelChoice, OpenModel, model_of, open_model};
pub use features::{FeatureJob, FeatureReport, Recipe, write_features};
pub use input::{Input, View};
pub use memory::ByteSize;
pub use observer::{Cancel, Observer};
pub use reads::{is_own, make_folder, read_of, targets};
pub use scene::Scene;
pub use segment::{LabelMap, LabelReport, Scan, SegmentJob, SegmentRecipe, beside_labels, segment_targets, without_channel};
pub use slices::Slices;
pub use spool::TensorSpool;
pub use system::{MORE_THREADS, peak_resident_bytes};
pub use text::name_text;
pub use tokens::{TokenSource, Tokens};
pub use weights::fetch_released;
