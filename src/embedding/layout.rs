//! The position of tokens in a buffer.

use crate::vit::config::Grid;

/// The layout of a buffer of tokens: [`images`, `tokens`, `channels`] of f32, row-major, from the buffer's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLayout {
    /// Images of the batch, B.
    pub images: usize,
    /// Tokens of an image, T = `prefix` + patches.
    pub tokens: usize,
    /// Values of a token, C.
    pub channels: usize,
    /// Tokens before an image's first patch: the class token, then the registers.
    pub prefix: usize,
    /// The patches of an image, row by row.
    pub grid: Grid,
}

impl TokenLayout {
    /// Returns the row of a token in the buffer, counting the tokens of all images. Its values begin at element
    /// `row * channels`.
    pub fn row(&self, image: usize, token: usize) -> usize {
        image * self.tokens + token
    }

    /// Returns the row of a patch, counted row by row over the image's [`TokenLayout::grid`].
    pub fn patch_row(&self, image: usize, patch: usize) -> usize {
        self.row(image, self.prefix + patch)
    }
}
