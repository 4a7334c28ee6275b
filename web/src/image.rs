//! An image for a model.

use meddino::Tensor;
use meddino::ct::{Affine, Orient, Size, Window};
use meddino::output::{ImagePlace, Preprocessing, Provenance};
use meddino::vit::config::{Config, Grid};
use wasm_bindgen::prelude::wasm_bindgen;

/// How HU become the values of every image.
pub const WINDOW: Window = Window::DEMO;

/// A slice that is windowed, normalised and resized for a model, and what it was made from.
#[wasm_bindgen]
pub struct Image {
    /// [1, 1, H, W]
    pub(crate) tensor: Tensor,
    /// Height and width of the slice that it shows.
    pub(crate) slice: (usize, usize),
    /// The slice's number in the scan.
    pub(crate) index: usize,
    /// The scan's name.
    pub(crate) input: String,
    /// The scan's format and other facts, as (name, text).
    pub(crate) about: Vec<(&'static str, String)>,
    /// The scan's affine, if it has one.
    pub(crate) affine: Option<Affine>,
    /// The size that was asked for.
    pub(crate) size: Size,
    /// The orientation of the scan's slices.
    pub(crate) orient: Orient,
}

impl Image {
    /// Returns height and width.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.tensor.shape()[2], self.tensor.shape()[3])
    }

    /// Returns the origin of features of this image, in a `grid` of patches of a model of `config`; whoever computes them
    /// adds the checkpoint and the backend. The contents of the scan's files are not hashed here.
    pub(crate) fn origin(&self, config: &Config, grid: Grid) -> Provenance {
        let (slices, image) = (vec![self.index], self.size());
        let place = |affine| ImagePlace { affine, slice: self.slice, image, patch_size: config.patch_size, slices: slices.clone() };
        Provenance {
            input: self.input.clone(),
            input_sha256: None,
            about: self.about.clone(),
            place: self.affine.map(place),
            slices,
            image,
            grid,
            preprocessing: Preprocessing::Scan { window: WINDOW, size: self.size, orient: self.orient },
            config: config.clone(),
            checkpoint: String::new(),
            checkpoint_sha256: None,
            backend: String::new(),
        }
    }
}
