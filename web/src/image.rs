//! An image for a model.

use wasm_bindgen::prelude::wasm_bindgen;

/// A slice that is windowed, normalised and resized for a model.
#[wasm_bindgen]
pub struct Image {
    /// [1, 1, H, W]
    pub(crate) tensor: meddino::Tensor,
    /// Height and width of the slice that it shows.
    pub(crate) slice: (usize, usize),
}

impl Image {
    /// Returns height and width.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.tensor.shape()[2], self.tensor.shape()[3])
    }
}
