//! What a fold on the CPU and a fold on a GPU have in common.

use crate::error::{Error, Result};

/// Facts about a fold on its backend.
pub(super) trait FoldBackend {
    /// Returns a readable name of the device.
    fn device(&self) -> String;
    /// Returns warnings for the user.
    fn warnings(&self) -> &[String];
    /// Returns the error for scores that are not finite.
    fn overflow(&self) -> Error;
    /// Returns the bytes that the weights and tiles [B, 1, h, w] of a slice of `size` [H, W] need.
    fn bytes(&self, tiles: [usize; 4], size: [usize; 2]) -> Result<u64>;
}
