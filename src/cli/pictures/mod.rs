//! Pictures of features and of labels.

mod drawing;
mod overlay;
mod pca;
mod similarity;
mod subject;

pub use drawing::{Drawing, Target};
pub use overlay::Overlay;
pub use pca::{run as pca, scores_alone};
pub use similarity::{heat, run as similarity, token};
