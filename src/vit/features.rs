//! The request for a forward pass, and its result.

use std::collections::BTreeSet;

use super::config::{Config, Grid};
use super::layers::Layers;
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
    /// Returns the request for the tokens of all of `layers`.
    pub fn of_layers<'a>(layers: impl IntoIterator<Item = &'a Layers>) -> Self {
        let blocks: BTreeSet<usize> = layers.into_iter().flat_map(Layers::blocks).copied().collect();
        Self { layers: blocks.into_iter().collect(), ..Self::default() }
    }

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
/// token minus the mean. A token is that of L blocks, joined channel by channel.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The blocks whose tokens are joined.
    pub layers: Layers,
    /// `[L C]`
    pub mean: Tensor,
    /// [K, L C]
    pub directions: Tensor,
}

impl Projection {
    /// Checks that the projection is one of tokens of this model, onto at least one direction.
    ///
    /// # Errors
    /// If it is not; the error names what was found.
    pub fn check(&self, config: &Config) -> Result<()> {
        Request::of_layers([&self.layers]).check(config)?;
        let (mean, directions, width) = (self.mean.shape(), self.directions.shape(), self.layers.count() * config.embed_dim);
        match *directions {
            [k, c] if k > 0 && c == width && *mean == [width] => Ok(()),
            _ => {
                let problem = format!("expected a mean [{width}] and directions [K, {width}], found {mean:?} and {directions:?}");
                Err(Error::option("projection", problem))
            }
        }
    }

    /// Returns the mean `[C]` and the directions [K, C] of each block.
    ///
    /// # Panics
    /// If the projection was not checked ([`Projection::check`]).
    pub fn by_layer(&self) -> Vec<(Tensor, Tensor)> {
        let (k, width) = (self.directions.rows(), self.mean.cols() / self.layers.count());
        let columns = |x: &Tensor, first: usize| x.data().chunks_exact(x.cols()).flat_map(|row| &row[first..][..width]).copied().collect();
        let of_layer = |i: usize| {
            (Tensor::new([width], columns(&self.mean, i * width)), Tensor::new([k, width], columns(&self.directions, i * width)))
        };
        (0..self.layers.count()).map(of_layer).collect()
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

    /// Returns the patch tokens of `layers`, image by image: [B P, L C].
    ///
    /// # Panics
    /// If the request did not ask for one of them ([`Request::of_layers`]).
    pub fn joined(&self, layers: &Layers) -> Tensor {
        let of_block = |block: &usize| &self.layers.iter().find(|(n, _)| n == block).expect("asked for by Request::of_layers").1;
        let parts: Vec<&Tensor> =
            if layers.blocks().is_empty() { vec![&self.x_norm] } else { layers.blocks().iter().map(of_block).collect() };
        let &[images, t, c] = self.x_norm.shape() else { panic!("tokens are [B, T, C], not {:?}", self.x_norm.shape()) };
        let patches = self.grid.patches();
        let places = (0..images).flat_map(|image| image * t + t - patches..(image + 1) * t);
        let values = places.flat_map(|at| parts.iter().flat_map(move |part| &part.data()[at * c..][..c])).copied();
        Tensor::new([images * patches, parts.len() * c], values.collect())
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

    #[test]
    fn tokens_of_several_blocks_are_joined_patch_by_patch() {
        // Two images of a cls token and two patches.
        let x = |sign: f32| Tensor::new([2, 3, 2], (0..12).map(|i| sign * i as f32).collect());
        let layers = vec![(1, x(10.0)), (4, x(-1.0))];
        let features = Features { layers, grid: Grid { rows: 1, cols: 2 }, ..features(x(1.0)) };
        let joined = |text: &str| features.joined(&text.parse().expect(text));
        assert_eq!(joined("1,4").shape(), [4, 4]);
        assert_eq!(joined("1,4").data(), [20., 30., -2., -3., 40., 50., -4., -5., 80., 90., -8., -9., 100., 110., -10., -11.]);
        assert_eq!(joined("4").data(), [-2., -3., -4., -5., -8., -9., -10., -11.]);
        assert_eq!(joined(""), features.patches().reshaped([4, 2]));
        let [four, two] = ["2,5,8,11", "1,5"].map(|text| text.parse().expect(text));
        assert_eq!(Request::of_layers([&four, &Layers::LAST, &two]).layers, [1, 2, 5, 8, 11]);
        assert_eq!(Request::of_layers([&Layers::LAST]), Request::default());
    }

    #[test]
    fn a_projection_is_of_the_blocks_that_the_model_has() {
        let config = Config::micro();
        let c = config.embed_dim;
        let mean = Tensor::new([2 * c], (0..2 * c).map(|i| i as f32).collect());
        let projection = |layers: &str, directions| Projection { layers: layers.parse().expect(layers), mean: mean.clone(), directions };
        let directions = Tensor::new([2, 2 * c], (0..4 * c).map(|i| -(i as f32)).collect());
        let two = projection("0,1", directions.clone());
        two.check(&config).expect("a projection");
        let [_, (second, second_directions)] = &two.by_layer()[..] else { panic!("two blocks") };
        assert_eq!((second.shape(), second.data()[0]), (&[c][..], c as f32));
        assert_eq!(
            (second_directions.shape(), second_directions.data()[0], second_directions.data()[c]),
            (&[2, c][..], -(c as f32), -3.0 * c as f32)
        );
        for (layers, directions, problem) in [
            ("", directions.clone(), format!("expected a mean [{c}]")),
            ("0,9", directions, "there is no block 9".into()),
            ("0,1", Tensor::new([0, 2 * c], Vec::new()), "directions [K".into()),
        ] {
            let message = projection(layers, directions).check(&config).expect_err("refused").to_string();
            assert!(message.contains(&problem), "{layers}: {message}");
        }
    }
}
