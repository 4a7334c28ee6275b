//! Features into files. A file appears whole or not at all.

mod features;
mod provenance;

pub use features::{FeatureFile, Output};
pub use provenance::{Preprocessing, Provenance};
