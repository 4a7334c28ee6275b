//! The tensors that a feature file may hold.

use std::borrow::Cow;
use std::fmt;

use crate::tensor::Tensor;
use crate::vit::config::{Config, Grid};
use crate::vit::features::{Features, Request};
use crate::vit::layers::Layers;

/// One tensor of an output file, with S images, R storage tokens, P patches, T = 1 + R + P tokens and C channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// `x_norm_clstoken` [S, C]
    Cls,
    /// `x_storage_tokens` [S, R, C]
    Storage,
    /// `x_norm_patchtokens` [S, P, C]
    Patch,
    /// `x_norm_patchtokens_mean` [S, C]: the mean over an image's patches, summed in f64.
    PatchMean,
    /// `x_prenorm` [S, T, C]: every token before the final norm.
    Prenorm,
    /// `layers.N` [S, T, C]: every token after block N and the final norm.
    Layer(usize),
}

impl Output {
    /// Returns the intermediate results that a forward pass must keep for `outputs`.
    pub fn request(outputs: &[Self]) -> Request {
        let layers = outputs.iter().filter_map(|o| if let Self::Layer(n) = o { Some(*n) } else { None });
        Request { prenorm: outputs.contains(&Self::Prenorm), layers: layers.collect(), taps: false }
    }

    /// Returns the tensors that hold the patch tokens of `layers`.
    pub fn of_layers(layers: &Layers) -> Vec<Self> {
        match layers.blocks() {
            [] => vec![Self::Patch],
            blocks => blocks.iter().copied().map(Self::Layer).collect(),
        }
    }

    /// Returns the shape for one image: [C], or [tokens, C].
    pub(super) fn shape(self, config: &Config, grid: Grid) -> Vec<usize> {
        let (c, r, p) = (config.embed_dim, config.n_storage_tokens, grid.patches());
        match self {
            Self::Cls | Self::PatchMean => vec![c],
            Self::Storage => vec![r, c],
            Self::Patch => vec![p, c],
            Self::Prenorm | Self::Layer(_) => vec![config.prefix_tokens() + p, c],
        }
    }

    /// Returns the values of image `image` of a batch, whose request must have asked for them ([`Output::request`]). Only a
    /// mean is computed; all others are borrowed.
    ///
    /// # Panics
    /// If the batch does not have them.
    pub fn of(self, features: &Features, image: usize) -> Cow<'_, [f32]> {
        let end = features.x_norm.shape()[1];
        let prefix = end - features.grid.patches();
        match self {
            Self::Cls => Cow::Borrowed(tokens(&features.x_norm, image, 0, 1)),
            Self::Storage => Cow::Borrowed(tokens(&features.x_norm, image, 1, prefix)),
            Self::Patch => Cow::Borrowed(tokens(&features.x_norm, image, prefix, end)),
            Self::PatchMean => Cow::Owned(mean_over_tokens(tokens(&features.x_norm, image, prefix, end), features.x_norm.cols())),
            Self::Prenorm => Cow::Borrowed(tokens(features.x_prenorm.as_ref().expect("asked for by Output::request"), image, 0, end)),
            Self::Layer(n) => {
                let (_, layer) = features.layers.iter().find(|(i, _)| *i == n).expect("asked for by Output::request");
                Cow::Borrowed(tokens(layer, image, 0, end))
            }
        }
    }
}

impl fmt::Display for Output {
    /// Writes the tensor's name in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cls => write!(f, "x_norm_clstoken"),
            Self::Storage => write!(f, "x_storage_tokens"),
            Self::Patch => write!(f, "x_norm_patchtokens"),
            Self::PatchMean => write!(f, "x_norm_patchtokens_mean"),
            Self::Prenorm => write!(f, "x_prenorm"),
            Self::Layer(n) => write!(f, "layers.{n}"),
        }
    }
}

/// Averages patches [P, C] over P, summed in f64.
fn mean_over_tokens(patches: &[f32], c: usize) -> Vec<f32> {
    let mean = |channel: usize| {
        let sum: f64 = patches.iter().skip(channel).step_by(c).map(|&v| f64::from(v)).sum();
        (sum / (patches.len() / c) as f64) as f32
    };
    (0..c).map(mean).collect()
}

/// Returns the tokens `first..end` of image `image` in `x` [B, T, C].
fn tokens(x: &Tensor, image: usize, first: usize, end: usize) -> &[f32] {
    let &[_, t, c] = x.shape() else { panic!("tokens are [B, T, C], not {:?}", x.shape()) };
    &x.data()[(image * t + first) * c..(image * t + end) * c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_patches_alone_and_each_channel_has_its_own() {
        // One image of a cls token and three patches of two channels. A sum in f32 would lose the ones.
        let x = Tensor::new([1, 4, 2], vec![9.0, 9.0, 1.0, 16_777_216.0, 2.0, 1.0, 6.0, 1.0]);
        let features = Features { grid: Grid { rows: 1, cols: 3 }, x_norm: x, x_prenorm: None, layers: Vec::new(), taps: Vec::new() };
        assert_eq!(*Output::PatchMean.of(&features, 0), [3.0, 5_592_406.0]);
    }
}
