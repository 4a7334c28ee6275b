//! What a pass is prepared for.

use std::time::Duration;

use super::input::PassInput;
use crate::vit::features::Request;

/// What a [`super::Pass`] is prepared for.
#[derive(Clone, Debug)]
pub struct PassSettings {
    /// Slices or images, and their size.
    pub input: PassInput,
    /// Slices or images that are computed at once, B.
    pub batch: usize,
    /// Whether patches can be masked: the model then sees its `mask_token` in their places.
    pub masked: bool,
    /// What to compute besides the normalised tokens of the last block.
    pub request: Request,
    /// The time in a frame that the pass may take, where the host spreads it over frames: dispatches that would take
    /// longer are cut smaller, as far as they can be. The host gives the same time to [`super::Pass::encode_some`].
    pub frame: Option<Duration>,
    /// Whether [`super::Pass::encode_some`] goes by how long the device takes for the pieces of this pass, instead of
    /// by the speed that was measured when the weights were loaded. For a host that draws while it loads a model,
    /// because the device then seems slower than it is.
    pub measured: bool,
}

impl PassSettings {
    /// One slice or image at a time, unmasked, in one piece.
    pub fn new(input: impl Into<PassInput>) -> Self {
        Self { input: input.into(), batch: 1, masked: false, request: Request::default(), frame: None, measured: false }
    }
}
