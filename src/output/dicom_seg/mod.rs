//! Writes a label map as DICOM SEG, which refers to every image that it was computed from (PS3.3 A.51, C.8.20).
//!
//! Data flows `codes` (what each label means, with `names`) -> `header` (everything of patient, study, images and
//! `segment`s, checked before anything is computed) -> `frames` (the bits of each slice) -> `data_set` (with `groups`,
//! the places of frames) -> `file`. `elements`, `text`, `uid` and `birth` make single values.

mod birth;
mod codes;
mod data_set;
mod elements;
mod file;
mod frames;
mod groups;
mod header;
mod names;
mod segment;
mod settings;
mod text;
mod uid;

pub use codes::SegCodes;
pub use file::SegFile;
pub use header::SegHeader;
pub use settings::{SegKind, SegSettings};
