//! Features into files, and patch tokens out of them again. A file appears whole or not at all.

mod features;
mod format;
#[cfg(feature = "readers")]
mod npy;
#[cfg(feature = "readers")]
mod npz;
mod place;
mod provenance;
mod stored;

pub use features::{Contents, FeatureFile, Output};
pub use format::Format;
pub use place::Place;
pub use provenance::{Preprocessing, Provenance};
pub use stored::StoredFeatures;
