//! Features into files. A file appears whole or not at all.

mod features;
mod new_file;
mod provenance;

pub use features::{FeatureFile, Output};
pub use new_file::NewFile;
pub use provenance::{Preprocessing, Provenance};
