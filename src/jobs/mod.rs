//! Complete jobs, from scans to features or labels, in files or in memory. They make the work of the `meddino` command
//! available to any program.
//!
//! A job is a recipe with its loaded model. It processes one input after another, as [`FeatureJob`] shows. A batch is
//! as large as the memory allows, and slices are read, computed and written at the same time. An interrupted feature
//! job resumes where it stopped. An [`Observer`] receives progress, notes and warnings, and may cancel the job.
//!
//! - [`Input`]: an open scan, from a file or from memory. [`Case`]: the path of a scan. [`Cohort`]: many scans.
//! - [`Recipe`] and [`FeatureJob`]: features, in files or in memory.
//! - [`SegmentRecipe`] and [`SegmentJob`]: labels by a network that was fine-tuned in nnU-Net, in files or in memory.
//! - [`HeadRecipe`] and [`HeadJob`]: labels by a head on patch tokens.
//! - [`fit_probe`], [`evaluate_probe`], [`predict_probe`]: heads on features in files.
//! - [`Scene`] and [`TokenSource`]: patch tokens of some slices, computed or read from a file, for maps and pictures.
//! - [`OutputFolder`]: a job over many cases, with a [`Manifest`] of finished cases.

mod case;
mod cohort;
mod engine;
mod features;
mod head_scores;
mod head_segment;
mod input;
mod memory;
mod name;
mod observer;
mod pipeline;
mod probe;
mod reads;
mod scene;
mod segment;
mod slices;
mod spool;
mod statistics;
mod system;
mod text;
mod tokens;
mod weights;

pub use case::Case;
pub use cohort::{Cohort, CohortReport, Manifest, Names, OutputFolder, Outputs, Pattern, Settings, Shard, Work, one_case};
pub use engine::{Engine, ModelChoice, OpenModel, model_of, open_model};
pub use features::{FeatureJob, FeatureReport, Recipe, write_features};
pub use head_segment::{HeadJob, HeadRecipe};
pub use input::{Input, View};
pub use memory::ByteSize;
pub use observer::{Cancel, Observer};
pub use probe::{
    Candidates, DiceReport, Figure, Figures, Label, LabelTable, Making, Measure, Part, PatchFile, PatchRecipe, ProbeRecipe, ProbeReport,
    RowName, Vector, Vectors, case_of, cvpr26_files, evaluate_patches, evaluate_probe, export_cvpr26, feature_files, fit_marks,
    fit_patches, fit_probe, labels_of, mask_of, patch_files, patch_vectors, predict_probe, tell_fit,
};
pub use reads::{is_own, make_folder, read_of, targets};
pub use scene::Scene;
pub use segment::{LabelMap, LabelReport, Scan, SegmentJob, SegmentRecipe, beside_labels, segment_targets, without_channel};
pub use slices::Slices;
pub use spool::TensorSpool;
pub use statistics::label_statistics;
pub use system::{MORE_THREADS, peak_resident_bytes};
pub use text::name_text;
pub use tokens::{TokenSource, Tokens};
pub use weights::fetch_released;
