//! Where a token lies in a buffer.

use crate::vit::config::Grid;

/// How a buffer of tokens is laid out: [`images`, `tokens`, `channels`] of f32, row-major, from the buffer's first
/// byte.
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
    /// The row of a token in the buffer, counting tokens of all images: its values begin at element `row * channels`.
    pub fn row(&self, image: usize, token: usize) -> usize {
        image * self.tokens + token
    }

    /// The row of a patch, counted row by row over the image's [`TokenLayout::grid`].
    pub fn patch_row(&self, image: usize, patch: usize) -> usize {
        self.row(image, self.prefix + patch)
    }
}
