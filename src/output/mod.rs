//! Writes features into files, and reads patch tokens back from them. A file is written completely or not at all.

#[cfg(feature = "readers")]
mod dicom_seg;
mod features;
mod format;
mod hdf5;
#[cfg(feature = "readers")]
mod labels;
#[cfg(feature = "readers")]
mod npy;
#[cfg(feature = "readers")]
mod npz;
mod ours;
mod place;
#[cfg(feature = "readers")]
mod probabilities;
mod provenance;
mod statistics;
mod stored;
mod targets;
mod tensors;

#[cfg(feature = "readers")]
pub use dicom_seg::{SegCodes, SegFile, SegHeader, SegKind, SegSettings};
pub use features::{Contents, FeatureFile};
pub use format::Format;
pub use hdf5::write_hdf5;
#[cfg(feature = "readers")]
pub use labels::LabelFile;
pub use ours::{WRITTEN_BY, is_manifest_name, is_ours};
pub use place::ImagePlace;
#[cfg(feature = "readers")]
pub use probabilities::ProbabilityFile;
pub use provenance::{Preprocessing, Provenance};
pub use statistics::{LabelStatistics, StatisticsTable};
pub use stored::StoredFeatures;
pub use targets::Targets;
pub use tensors::Output;
