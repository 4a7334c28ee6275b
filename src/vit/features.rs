//! The request for a forward pass, and its result.

use super::config::{Config, Grid};
use crate::advice::CPU;
use crate::error::{Error, Result};
use crate::graph::{Elem, Limits};
use crate::tensor::Tensor;

/// Asks whether the work goes on; its error ends it.
pub type Check<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// The outputs to compute in addition to the normalised tokens of the last block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Keep `x_prenorm`: the last block's output before the final norm.
    pub prenorm: bool,
    /// Blocks whose output is kept, through the final norm, as [`Features::layers`].
    pub layers: Vec<usize>,
    /// Keep every tap for comparing backends: `patch_embed` and each block's raw output.
    pub taps: bool,
}

impl Request {
    /// Checks that every requested layer is a block of this model.
    ///
    /// # Errors
    /// If a layer is not a block; the error names the first such layer.
    pub fn check(&self, config: &Config) -> Result<()> {
        match self.layers.iter().find(|&&layer| layer >= config.depth) {
            Some(layer) => {
                Err(Error::option("layers", format!("there is no block {layer}: this model has blocks 0 to {}", config.depth - 1)))
            }
            None => Ok(()),
        }
    }
}

/// Directions that patch tokens are projected on: a token's score along a direction is the direction's product with the
/// token minus the mean.
#[derive(Clone, Debug)]
pub struct Projection {
    /// `[C]`
    pub mean: Tensor,
    /// [K, C]
    pub directions: Tensor,
}

impl Projection {
    /// Checks that the projection is one of tokens of `width` channels, onto at least one direction.
    ///
    /// # Errors
    /// If it is not; the error names what was found.
    pub fn check(&self, width: usize) -> Result<()> {
        let (mean, directions) = (self.mean.shape(), self.directions.shape());
        match *directions {
            [k, c] if k > 0 && c == width && *mean == [width] => Ok(()),
            _ => {
                let problem = format!("expected a mean [{width}] and directions [K, {width}], found {mean:?} and {directions:?}");
                Err(Error::option("projection", problem))
            }
        }
    }
}

/// The tokens of a batch of images. B images, T = 1 + R + P tokens (cls, storage, patches), C channels.
#[derive(Clone, Debug)]
pub struct Features {
    /// The patches of each image.
    pub grid: Grid,
    /// Every token after the last block and the final norm: [B, T, C].
    pub x_norm: Tensor,
    /// Every token after the last block: [B, T, C]; if requested.
    pub x_prenorm: Option<Tensor>,
    /// Every token after block N and the final norm, for each requested N: (N, [B, T, C]).
    pub layers: Vec<(usize, Tensor)>,
    /// `patch_embed` [B, P, C] and `blocks.N` [B, T, C], if requested.
    pub taps: Vec<(String, Tensor)>,
}

impl Features {
    /// Returns `x_norm_clstoken`: [B, C].
    pub fn cls(&self) -> Tensor {
        let c = self.x_norm.cols();
        let cls = tokens(&self.x_norm, 0, 1);
        let b = cls.shape()[0];
        cls.reshaped([b, c])
    }

    /// Returns `x_storage_tokens`: [B, R, C].
    pub fn storage(&self) -> Tensor {
        let storage = self.x_norm.shape()[1] - 1 - self.grid.patches();
        tokens(&self.x_norm, 1, storage)
    }

    /// Returns `x_norm_patchtokens`: [B, P, C].
    pub fn patches(&self) -> Tensor {
        let patches = self.grid.patches();
        tokens(&self.x_norm, self.x_norm.shape()[1] - patches, patches)
    }
}

/// What limits the values between operations. Sums are always in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    F32,
    F16,
    /// f32, but the factors of a product are split into two f16.
    SplitF32,
}

impl From<&Limits> for Range {
    fn from(limits: &Limits) -> Self {
        match limits.elem {
            Elem::F16 => Self::F16,
            Elem::F32 if limits.tier.cooperative().is_some() => Self::SplitF32,
            Elem::F32 => Self::F32,
        }
    }
}

impl Features {
    /// Returns whether all outputs are finite. [`Features::taps`] are not checked, because they serve to find the
    /// cause.
    pub(crate) fn are_finite(&self) -> bool {
        let layers = self.layers.iter().map(|(_, x)| x);
        std::iter::once(&self.x_norm).chain(&self.x_prenorm).chain(layers).all(Tensor::is_finite)
    }

    /// Returns the error for features that are not finite. The error says where the first NaN or infinity appears, as
    /// far as [`Features::taps`] show it, and what to do if intermediate values were limited to `range`.
    pub(crate) fn overflow(&self, range: Range) -> Error {
        let tap = self.taps.iter().find(|(_, x)| !x.is_finite()).map(|(name, _)| name.clone());
        overflow("features", range, tap.as_deref())
    }
}

/// Returns the error for results that are not finite. `range` is what intermediate values were limited to. `first` is
/// the first tensor with a NaN or infinity, if it is known.
pub(crate) fn overflow(results: &str, range: Range, first: Option<&str>) -> Error {
    let first = first.map(|name| format!(" from {name} on")).unwrap_or_default();
    match range {
        Range::F16 => Error::option(
            "precision",
            format!("the {results} are not finite{first}: values on their way passed the range of f16 (65504); use `precision` f32"),
        ),
        Range::SplitF32 => Error::option(
            "tier",
            format!(
                "the {results} are not finite{first}: a factor of a matrix product may have passed the range of f16 (65504), which cooperative matrices hold; use `tier` subgroups"
            ),
        ),
        Range::F32 => {
            let more = if first.is_empty() { format!("; {CPU} says in which block") } else { String::new() };
            let problem = "the image or the weights hold values that lead beyond f32's range; see whether both are what they should be";
            Error::option("image", format!("the {results} are not finite{first}: {problem}{more}"))
        }
    }
}

/// Copies `count` tokens of each image, from `first` on: [B, T, C] -> [B, count, C].
pub(crate) fn tokens(x: &Tensor, first: usize, count: usize) -> Tensor {
    let &[b, t, c] = x.shape() else { panic!("tokens are [B, T, C], not {:?}", x.shape()) };
    let mut data = Vec::with_capacity(b * count * c);
    x.data().chunks_exact(t * c).for_each(|image| data.extend_from_slice(&image[first * c..(first + count) * c]));
    Tensor::new([b, count, c], data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(x_norm: Tensor) -> Features {
        Features { grid: Grid { rows: 1, cols: 1 }, x_norm, x_prenorm: None, layers: Vec::new(), taps: Vec::new() }
    }

    #[test]
    fn no_output_hides_a_value_that_is_not_finite() {
        let (good, bad) = (Tensor::zeros([1, 1, 2]), Tensor::new([1, 1, 2], vec![0.0, f32::NEG_INFINITY]));
        let fine = features(good.clone());
        assert!(fine.are_finite());
        let nan = features(Tensor::new([1, 1, 2], vec![f32::NAN, 0.0]));
        let prenorm = Features { x_prenorm: Some(bad.clone()), ..fine.clone() };
        let layer = Features { layers: vec![(0, good.clone()), (1, bad.clone())], ..fine.clone() };
        for lost in [nan, prenorm, layer, features(bad.clone())] {
            assert!(!lost.are_finite(), "{lost:?}");
        }
        let taps = vec![("patch_embed".to_owned(), good), ("blocks.0".to_owned(), bad.clone()), ("blocks.1".to_owned(), bad)];
        let message = Features { taps, ..fine }.overflow(Range::F16).to_string();
        assert!(message.contains("from blocks.0 on") && message.contains("65504") && message.contains("`precision` f32"), "{message}");
    }

    #[test]
    fn each_kind_of_token_is_cut_from_every_image() {
        let (b, r, grid, c) = (2, 4, Grid { rows: 1, cols: 2 }, 3);
        let t = 1 + r + grid.patches();
        let x = Tensor::new([b, t, c], (0..b * t * c).map(|i| i as f32).collect());
        let features = Features { grid, x_norm: x, x_prenorm: None, layers: Vec::new(), taps: Vec::new() };
        assert_eq!(features.cls().data(), [0., 1., 2., 21., 22., 23.]);
        assert_eq!(features.storage().shape(), [2, 4, 3]);
        assert_eq!(features.storage().data()[12..15], [24., 25., 26.]);
        assert_eq!(features.patches().shape(), [2, 2, 3]);
        assert_eq!(features.patches().data()[..3], [15., 16., 17.]);
        assert_eq!(features.patches().data()[6..9], [36., 37., 38.]);
    }
}
