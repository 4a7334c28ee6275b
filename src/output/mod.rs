//! Features into files. A file appears whole or not at all.

mod features;
mod format;
#[cfg(feature = "readers")]
mod npy;
#[cfg(feature = "readers")]
mod npz;
mod place;
mod provenance;

pub use features::{Contents, FeatureFile, Output};
pub use format::Format;
pub use place::Place;
pub use provenance::{Preprocessing, Provenance};
