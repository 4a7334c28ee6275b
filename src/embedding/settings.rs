//! The settings of a pass.

use std::time::Duration;

use super::input::PassInput;
use crate::vit::features::Request;

/// The settings that a [`super::Pass`] is prepared for.
#[derive(Clone, Debug)]
pub struct PassSettings {
    /// Slices or images, and their size.
    pub input: PassInput,
    /// The number of slices or images that are computed at once, B.
    pub batch: usize,
    /// Whether patches can be masked. The model then sees its `mask_token` in their places.
    pub masked: bool,
    /// The features to compute in addition to the normalised tokens of the last block.
    pub request: Request,
    /// The time in a frame that the pass may take, if the host spreads it over frames. Longer dispatches are cut
    /// smaller, as far as they can be. The host gives the same time to [`super::Pass::encode_some`].
    pub frame: Option<Duration>,
    /// Whether [`super::Pass::encode_some`] times the pieces of this pass on the device, instead of using the speed
    /// that was measured when the weights were loaded. A host that draws while it loads a model sets this, because
    /// drawing makes the device seem slower than it is.
    pub measured: bool,
}

impl PassSettings {
    /// Makes the settings for one slice or image at a time, unmasked, in one piece.
    pub fn new(input: impl Into<PassInput>) -> Self {
        Self { input: input.into(), batch: 1, masked: false, request: Request::default(), frame: None, measured: false }
    }
}
