//! Scans: slices in Hounsfield units, the readers of their file formats, and the preprocessing of a slice into a
//! model's input image.
//!
//! ```
//! use meddino::ct::{Size, Volume, Window, prepare};
//!
//! let mut scan = Volume::phantom(); // or Volume::open("scan.npy")
//! let slice = scan.read_slice(0)?; // [H, W] in HU
//! let image = prepare(&slice, &Window::DEMO, Size::Square(224)); // [1, 1, 224, 224], normalised
//! assert_eq!(image.shape(), [1, 1, 224, 224]);
//! # Ok::<(), meddino::Error>(())
//! ```
//!
//! This module does not depend on checkpoints, models or devices. Files other than `.safetensors` need the feature
//! `readers`.

mod affine;
#[cfg(feature = "readers")]
mod bytes;
#[cfg(feature = "readers")]
mod dicom;
#[cfg(feature = "readers")]
mod dicom_images;
#[cfg(feature = "readers")]
mod files;
mod geometry;
#[cfg(feature = "readers")]
mod grid;
#[cfg(feature = "readers")]
mod header_lines;
#[cfg(feature = "files")]
mod images;
mod label_format;
#[cfg(feature = "readers")]
mod label_header;
#[cfg(feature = "readers")]
mod label_text;
#[cfg(feature = "readers")]
mod lent;
#[cfg(feature = "readers")]
mod metaimage;
#[cfg(feature = "readers")]
mod nifti;
#[cfg(feature = "readers")]
mod npy;
#[cfg(feature = "readers")]
mod nrrd;
mod orient;
mod phantom;
mod prepare;
mod resize;
#[cfg(feature = "readers")]
mod scalar;
mod scratch;
mod source;
mod spool;
mod turn;
mod volume;
#[cfg(feature = "readers")]
mod voxels;
mod window;

pub use affine::{Affine, PatientAxes};
#[cfg(feature = "readers")]
pub use dicom::{Series, is_dicom, series};
#[cfg(feature = "readers")]
pub use dicom_images::{DicomImages, SliceImage, StoredText};
#[cfg(feature = "readers")]
pub use files::files_of;
pub use geometry::Geometry;
#[cfg(feature = "files")]
pub use images::Images;
pub use label_format::LabelFormat;
pub use orient::Orient;
pub use prepare::{Size, prepare};
pub use resize::{resize, resized, taps};
pub use scratch::Scratch;
pub use source::{MAX_SLICES, SliceReader};
pub use turn::Turn;
pub use volume::Volume;
pub use window::Window;
