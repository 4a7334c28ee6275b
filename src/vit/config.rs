//! The model's sizes and precisions. This is the only file with magic numbers, and each of them names its source.

use std::fmt;
use std::str::FromStr;

use crate::count::product;
use crate::error::{Error, Result};

/// The longest side of an image that the model takes, in pixels. Sides of 8192 give 262 144 patches, whose features
/// alone take 0.8 GB.
pub const MAX_SIDE: usize = 8192;

/// LayerNorm's epsilon in the authors' `vit_base`.
pub const NORM_EPS: f32 = 1e-6;

/// LayerNorm's epsilon in Meta's DINOv3, and therefore in Hugging Face's and timm's.
pub const META_NORM_EPS: f32 = 1e-5;

/// The model sizes for which there are seeded weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelSize {
    /// [`Config::vit_base`], the size of the released model.
    #[default]
    Base,
    /// [`Config::tiny`].
    Tiny,
    /// [`Config::micro`].
    Micro,
}

impl ModelSize {
    /// Returns the configuration of a model of this size.
    pub fn config(self) -> Config {
        match self {
            Self::Base => Config::vit_base(),
            Self::Tiny => Config::tiny(),
            Self::Micro => Config::micro(),
        }
    }
}

impl fmt::Display for ModelSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "vit_base",
            Self::Tiny => "tiny",
            Self::Micro => "micro",
        })
    }
}

impl FromStr for ModelSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = [Self::Base, Self::Tiny, Self::Micro];
        let found = sizes.into_iter().find(|size| size.to_string() == text);
        found.ok_or_else(|| format!("expected vit_base, tiny or micro, found {text}"))
    }
}

/// The arithmetic of the rotary position embedding.
///
/// The authors of MedDINOv3 leave `pos_embed_rope_dtype` at its default, bf16, so every step is rounded to bf16 even in
/// an f32 model; Meta's hub, Hugging Face and timm compute it in f32. The two differ by 8e-4 (relative L2) in the
/// features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePrecision {
    /// Tables, products and sums rounded to bf16, nearest even.
    Bf16,
    /// Everything in f32.
    F32,
}

impl RopePrecision {
    /// Returns the spelling in options and metadata: `bf16` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }
}

/// The configuration of a DINOv3 vision transformer, as the names and shapes of its weights, or the file beside them,
/// determine it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of a token, `C`.
    pub embed_dim: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Attention heads, `N`.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer.
    pub ffn_dim: usize,
    /// Storage (register) tokens between cls and patches, `R`.
    pub n_storage_tokens: usize,
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    /// Channels of the image that the patch embedding takes.
    pub in_chans: usize,
    /// Whether `attn.qkv` has a bias.
    pub qkv_bias: bool,
    /// Whether there is a `mask_token`.
    pub mask_token: bool,
    /// LayerNorm's epsilon: [`NORM_EPS`] or [`META_NORM_EPS`].
    pub norm_eps: f32,
    /// The arithmetic of the position embedding.
    pub rope: RopePrecision,
    /// Base of the position embedding's periods: 100 in every DINOv3 (`pos_embed_rope_base`).
    pub rope_base: f32,
}

impl Config {
    /// Returns the configuration of MedDINOv3-B-CT3M: ViT-B/16 with four storage tokens, no qkv bias, eps 1e-6, bf16
    /// RoPE.
    pub fn vit_base() -> Self {
        Self {
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            ffn_dim: 3072,
            n_storage_tokens: 4,
            patch_size: 16,
            in_chans: 3,
            qkv_bias: false,
            mask_token: true,
            norm_eps: NORM_EPS,
            rope: RopePrecision::Bf16,
            rope_base: 100.0,
        }
    }

    /// Returns a configuration 128 wide and 3 deep, with two heads. It runs the same code paths, for tests that must be
    /// fast.
    pub fn tiny() -> Self {
        Self { embed_dim: 128, depth: 3, num_heads: 2, ffn_dim: 512, ..Self::vit_base() }
    }

    /// Returns a configuration 64 wide and 2 deep, with one head. It is small enough to keep whole checkpoint files of
    /// it.
    pub fn micro() -> Self {
        Self { embed_dim: 64, depth: 2, num_heads: 1, ffn_dim: 256, ..Self::vit_base() }
    }

    /// Returns the configuration as JSON, for programs and for the metadata of files. Every field has its own name.
    pub fn to_json(&self) -> serde_json::Value {
        // Converts through the shortest decimal text, because a direct conversion to f64 turns 1e-6 into
        // 9.99999997475e-7.
        let norm_eps: f64 = self.norm_eps.to_string().parse().expect("a number's own text");
        serde_json::json!({
            "embed_dim": self.embed_dim,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "ffn_dim": self.ffn_dim,
            "n_storage_tokens": self.n_storage_tokens,
            "patch_size": self.patch_size,
            "in_chans": self.in_chans,
            "qkv_bias": self.qkv_bias,
            "mask_token": self.mask_token,
            "norm_eps": norm_eps,
            "rope": self.rope.name(),
            "rope_base": self.rope_base,
        })
    }

    /// Returns the width of one head, `D`.
    pub fn head_dim(&self) -> usize {
        self.embed_dim / self.num_heads
    }

    /// Returns the number of tokens before the patches (cls and storage), `1 + R`.
    pub fn prefix_tokens(&self) -> usize {
        1 + self.n_storage_tokens
    }

    /// Returns the number of f32 in the buffers that all blocks of the CPU's forward pass share, for one image of
    /// `tokens` tokens: x, its normalised copy, q k v before and after RoPE, attention's result (9 C), and the hidden
    /// layer (F).
    pub fn working_values(&self, tokens: usize) -> u64 {
        product(&[tokens, 9 * self.embed_dim + self.ffn_dim])
    }

    /// Returns the patch grid of an image of `height` x `width` pixels. A remainder below one patch is ignored, as in
    /// the original.
    ///
    /// # Errors
    /// If the image holds no patch or is larger than [`MAX_SIDE`].
    pub fn grid(&self, height: usize, width: usize) -> Result<Grid> {
        let p = self.patch_size;
        if height < p || width < p {
            return Err(Error::option(
                "image size",
                format!("{height} x {width} pixels hold no patch of {p} x {p}; resize it (`size` {}) or give a larger slice", 14 * p),
            ));
        }
        if height > MAX_SIDE || width > MAX_SIDE {
            return Err(Error::option(
                "image size",
                format!("{height} x {width} is beyond {MAX_SIDE} pixels a side; resize it with `size`"),
            ));
        }
        Ok(Grid { rows: height / p, cols: width / p })
    }

    /// Returns batch size and patch grid of an image of `shape`, which must be [B, in_chans, H, W], or [B, 1, H, W] if
    /// one channel is used for all.
    ///
    /// # Errors
    /// If the shape is anything else, or [`Config::grid`] refuses its size.
    pub fn check_image(&self, shape: &[usize]) -> Result<(usize, Grid)> {
        match *shape {
            [batch, channels, height, width] if batch > 0 && (channels == 1 || channels == self.in_chans) => {
                Ok((batch, self.grid(height, width)?))
            }
            _ => Err(Error::option(
                "image",
                format!("its shape is {shape:?}; this model takes [B, {}, H, W] or [B, 1, H, W]", self.in_chans),
            )),
        }
    }

    /// Returns the floating-point operations of the matrix products for one image: the patch embedding, the linear
    /// layers, and attention's `q k^T` and `p v`. A multiplication and an addition count as two. The operations between
    /// the products (LayerNorm, RoPE, softmax, GELU) are under 1 % and left out. `channels` is the number of channels
    /// of the image. If one channel is used for all, the products have one channel, with the weight summed over its
    /// channels.
    pub fn product_flops(&self, channels: usize, grid: Grid) -> u64 {
        let (c, t) = (self.embed_dim, self.prefix_tokens() + grid.patches());
        let patch_embed = product(&[grid.patches(), channels, self.patch_size, self.patch_size, c]);
        let linear = product(&[t, c, 3 * c + c + 2 * self.ffn_dim]);
        let attention = product(&[2, t, t, c]);
        2 * (patch_embed + self.depth as u64 * (linear + attention))
    }

    /// Checks that a mask of `len` patches fits a batch, and that the model has a `mask_token` for the masked patches.
    ///
    /// # Errors
    /// If the mask does not fit, or the model has no `mask_token`.
    pub fn check_mask(&self, len: usize, batch: usize, grid: Grid) -> Result<()> {
        if !self.mask_token {
            return Err(Error::option("mask", "this checkpoint has no mask_token, so nothing can be masked"));
        }
        if len != batch * grid.patches() {
            return Err(Error::option("mask", format!("it has {len} entries for {batch} x {} patches", grid.patches())));
        }
        Ok(())
    }
}

/// The patches of one image: `rows` x `cols`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Patches from top to bottom, `Hp`.
    pub rows: usize,
    /// Patches from left to right, `Wp`.
    pub cols: usize,
}

impl Grid {
    /// Returns the number of patches, `P`.
    pub fn patches(self) -> usize {
        self.rows * self.cols
    }
}
