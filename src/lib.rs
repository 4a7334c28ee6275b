//! MedDINOv3 features from CT scans, on any GPU or none.
//!
//! MedDINOv3 is a ViT-B/16 of the DINOv3 family, trained on CT slices. This crate computes its features with WGSL shaders of its own on wgpu, or on the CPU;
//! the two check each other, and both are held against PyTorch.
//!
//! ```
//! use meddino::backbone::{Backbone, Choice};
//! use meddino::ct::{Size, Volume, Window, prepare};
//! use meddino::vit::{config::ModelSize, features::Request, model::Model};
//!
//! let model = Model::seeded(0, ModelSize::Tiny); // or Model::open("MedDINOv3-B-CT3M.pth")?
//! let backbone = Backbone::new(&model, Choice::Cpu)?; // or Choice::Auto: a real GPU if there is one
//! let mut scan = Volume::phantom(); // or Volume::open("slice.npy")
//! let image = prepare(&scan.read_slice(0)?, &Window::DEMO, Size::Square(64)); // [1, 1, 64, 64]
//! let features = backbone.features(&image, None, &Request::default())?;
//! assert_eq!(features.patches().shape(), [1, 16, 128]); // [B, P, C]
//! # Ok::<(), meddino::Error>(())
//! ```
//!
//! - [`ct`]: scans, and the way from a slice to an image.
//! - [`vit`]: the model, its weights, its forward pass; [`checkpoint`]: the files it comes from.
//! - [`backbone`]: model and backend in, features out; [`gpu`] and [`cpu`] are the backends, [`graph`] and [`kernels`] what the GPU is made of.
//! - [`embedding`]: a model inside another program's wgpu device, from its textures to its shaders; how, and what it costs a frame.
//! - [`maps`]: features into what people can look at: principal components, similarity; `picture` (feature `pictures`) makes PNGs of them.
//! - `jobs` (feature `jobs`): whole jobs, from scans to files, with progress; what the command does, for any program.
//! - [`output`]: features into files; [`archive`]: the safetensors files underneath; [`verify`]: how far two runs are apart.
//!
//! # Warnings
//! What a user should know and may not expect stands in the `warnings()` of a scan, a checkpoint, a model or a device, and goes to the [`log`] crate
//! once, at the level of warnings, under the module that found it (`meddino::ct`, `meddino::checkpoint`, `meddino::gpu`, ...). A program that has a
//! logger, or `tracing` with `tracing-log`, hears it there; the `meddino` command has none, and prints the warnings itself.
//!
//! # Features
//! - `cli` (default): the `meddino` command.
//! - `cpu` (default): the CPU backend, on rayon's threads.
//! - `files` (default): everything that opens a path: PyTorch checkpoints, outputs, results folders, caches on disk.
//! - `jobs` (default): `jobs`, batches by memory, cohorts, jobs that are resumed and cancelled.
//! - `hub` (default): `hub`, the released checkpoint from the Hugging Face hub, cached.
//! - `pictures` (default): PNG pictures of features, and principal components.
//! - `readers` (default): scans in `.npy`, NIfTI and DICOM.
//! - `jpeg-ls`: DICOM compressed by JPEG-LS; needs CMake and a C++ compiler.
//!
//! Without default features the library has the model, the GPU backend, safetensors checkpoints from memory and [`embedding`], and none of the
//! dependencies of the others: what a browser build needs.

pub mod archive;
pub mod backbone;
pub mod checkpoint;
#[cfg(feature = "cpu")]
pub mod cpu;
pub mod ct;
pub mod embedding;
pub mod error;
pub mod gpu;
pub mod graph;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "jobs")]
pub mod jobs;
pub mod kernels;
pub mod maps;
#[cfg(feature = "files")]
pub mod nnunet;
#[cfg(feature = "files")]
pub mod output;
mod parallel;
#[cfg(feature = "pictures")]
pub mod picture;
#[cfg(feature = "files")]
pub mod segmenter;
pub mod tensor;
#[cfg(feature = "files")]
pub mod verify;
pub mod vit;

pub use error::{Error, Result};
pub use tensor::{Tensor, TensorView};

/// The README's examples compile.
#[cfg(all(doctest, feature = "readers"))]
#[doc = include_str!("../README.md")]
struct Readme;
