//! MedDINOv3 features from CT scans, on any GPU or on the CPU.
//!
//! MedDINOv3 is a ViT-B/16 of the DINOv3 family, trained on CT slices. This crate computes its features with its own
//! WGSL compute shaders on wgpu, or on the CPU. The tests compare the two backends with each other and with PyTorch.
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
//! - [`ct`]: scans, and the steps from a slice to an image.
//! - [`checkpoint`]: checkpoint files as named tensors. [`vit`]: the model, its weights and its forward pass.
//! - [`backbone`]: runs a model on a backend. The backends are [`gpu`] and `cpu`; [`graph`] and [`kernels`] describe the
//!   work of the GPU.
//! - [`embedding`]: a model inside another program's wgpu device.
//! - `segmenter` and `nnunet`: segmentation networks that were fine-tuned with nnU-Net.
//! - [`maps`]: principal components and similarity of features. `picture` draws them as PNG.
//! - `heads`: classifiers on features: logistic regression, linear probe, nearest neighbours, and how good they are.
//! - `fitted`: fitted classifiers in files.
//! - `jobs`: features and label maps of whole scans and cohorts, with progress, cancelling and resuming.
//! - `output`: features and label maps in files. [`archive`]: the safetensors files underneath.
//! - `verify`: compares two backends, or a backend and a stored result, layer by layer.
//!
//! # Warnings
//! Scans, checkpoints, models and devices have `warnings()`. Each warning also goes to the [`log`] crate once, under the
//! module that found it (`meddino::ct`, `meddino::checkpoint`, `meddino::gpu`, ...). A program with a logger, or with
//! `tracing` and `tracing-log`, receives it there. The `meddino` command installs no logger and prints the warnings itself.
//!
//! # Features
//! All except `jpeg-ls` are on by default.
//!
//! - `cli`: the `meddino` command.
//! - `jobs`: the module `jobs`.
//! - `heads`: the module `heads`.
//! - `cpu`: the CPU backend, on rayon's thread pool.
//! - `files`: everything that opens a path: PyTorch checkpoints, outputs, nnU-Net results folders, caches.
//! - `readers`: scans in `.npy`, NIfTI and DICOM.
//! - `pictures`: PNG pictures and principal components.
//! - `hub`: download of the released checkpoint from the Hugging Face hub.
//! - `jpeg-ls`: JPEG-LS in DICOM; needs CMake and a C++ compiler.
//!
//! Without default features the library has the model, the GPU backend, [`embedding`], and safetensors checkpoints from
//! memory. A browser build (`web/`) also has `readers`, which read files that the page lends, `pictures`, and `heads` with
//! the CPU backend.

mod advice;
pub mod archive;
pub mod backbone;
pub mod checkpoint;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod count;
#[cfg(feature = "cpu")]
pub mod cpu;
pub mod ct;
pub mod embedding;
pub mod error;
#[cfg(all(feature = "files", feature = "heads"))]
pub mod fitted;
pub mod gpu;
pub mod graph;
#[cfg(feature = "heads")]
pub mod heads;
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

// The command line uses only the public API, by the name that other programs use.
#[cfg(feature = "cli")]
extern crate self as meddino;

pub use error::{Error, Result};
pub use tensor::{Tensor, TensorView};

/// The examples in `docs/embedding.md` compile.
#[cfg(all(doctest, feature = "jobs"))]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingPage;
