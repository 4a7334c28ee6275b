//! Inside another program's wgpu device.
mod map;
mod pass;
mod source;

pub use map::{Map, Picture, Scores, Similarity};
pub use pass::{Layout, Pass, Progress, Settings};
pub use source::Source;
