//! What a forward pass is asked for, and what it gives.

use super::config::{Config, Grid};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What to compute beside the normalised tokens of the last block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Keep `x_prenorm`: the last block's output before the final norm.
    pub prenorm: bool,
    /// Blocks whose output is kept, through the final norm, as [`Features::layers`].
    pub layers: Vec<usize>,
    /// Keep every tap that backends are compared by: `patch_embed` and each block's raw output.
    pub taps: bool,
}

impl Request {
    /// Whether every wanted layer is a block of this model.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check(&self, config: &Config) -> Result<()> {
        match self.layers.iter().find(|&&layer| layer >= config.depth) {
            Some(layer) => {
                Err(Error::option("layers", format!("there is no block {layer}: this model has blocks 0 to {}", config.depth - 1)))
            }
            None => Ok(()),
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
    /// Every token after the last block: [B, T, C]; if asked for.
    pub x_prenorm: Option<Tensor>,
    /// Every token after block N and the final norm, as asked for: (N, [B, T, C]).
    pub layers: Vec<(usize, Tensor)>,
    /// `patch_embed` [B, P, C] and `blocks.N` [B, T, C], if asked for.
    pub taps: Vec<(String, Tensor)>,
}

impl Features {
    /// `x_norm_clstoken`: [B, C].
    pub fn cls(&self) -> Tensor {
        let c = self.x_norm.cols();
        let cls = tokens(&self.x_norm, 0, 1);
        let b = cls.shape()[0];
        cls.reshaped([b, c])
    }

    /// `x_storage_tokens`: [B, R, C].
    pub fn storage(&self) -> Tensor {
        let storage = self.x_norm.shape()[1] - 1 - self.grid.patches();
        tokens(&self.x_norm, 1, storage)
    }

    /// `x_norm_patchtokens`: [B, P, C].
    pub fn patches(&self) -> Tensor {
        let patches = self.grid.patches();
        tokens(&self.x_norm, self.x_norm.shape()[1] - patches, patches)
    }
}

/// `count` tokens from `first` on, of each image: [B, T, C] -> [B, count, C].
fn tokens(x: &Tensor, first: usize, count: usize) -> Tensor {
    let &[b, t, c] = x.shape() else { panic!("tokens are [B, T, C], not {:?}", x.shape()) };
    let data = x.data().chunks_exact(t * c).flat_map(|image| &image[first * c..(first + count) * c]).copied().collect();
    Tensor::new([b, count, c], data)
}

#[cfg(test)]
mod tests {
    use super::*;

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
