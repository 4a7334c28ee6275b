//! Pictures of features, as PNG: maps in colour, beside or over the slice that they belong to.
//!
//! ```
//! use meddino::Tensor;
//! use meddino::ct::Volume;
//! use meddino::maps::{Mesh, cosine, limits};
//! use meddino::picture::{Gray, Panel, bar, beside, write_png};
//! use meddino::vit::config::Grid;
//!
//! let slice = Volume::phantom().read_slice(0)?; // [512, 512] in HU
//! let grid = Grid { rows: 14, cols: 14 }; // of an image of 224 x 224, patches of 16 x 16
//! let tokens = Tensor::new([196, 2], (0..392).map(|i| i as f32).collect()); // [P, C]; really Features::patches
//! let mesh = Mesh::new(grid, 16, (224, 224), (512, 512));
//! let map = cosine(&tokens, &tokens.data()[2 * mesh.patch_of_pixel(300, 250)?..][..2]); // [P]
//!
//! // pixels of 0.7 x 0.7 mm
//! let panel = Panel::new(mesh, (0.7, 0.7), 256);
//! let ct = panel.ct(&Gray::SOFT_TISSUE.shades(&slice));
//! let mut overlay = ct.clone();
//! panel.heat(&mut overlay, 0.6, &map, limits(&map));
//! panel.mark(&mut overlay, 300, 250);
//! let picture = beside(&[ct, overlay, bar(limits(&map), 256)]);
//! assert_eq!(picture.height(), 256);
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("similarity.png");
//! write_png(&picture, &path, &[("Title", "similarity")])?;
//! # Ok::<(), meddino::Error>(())
//! ```

mod canvas;
mod chart;
mod colour;
mod font;
mod gray;
mod panel;
mod png_file;
mod sheet;

pub use canvas::Canvas;
pub use chart::{calibration_chart, confusion_chart, roc_chart};
pub use colour::{Rgb, colour, distinct};
pub use gray::Gray;
pub use panel::Panel;
pub use png_file::encode_png;
#[cfg(feature = "files")]
pub use png_file::write_png;
pub use sheet::{bar, beside, captioned, key, sheet};
