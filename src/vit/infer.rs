//! Infers a model's configuration from its checkpoint: names and shapes say what they can, and hints say the rest. The
//! file's name does not matter.

use std::collections::BTreeMap;

use super::config::{Config, META_NORM_EPS, NORM_EPS, RopePrecision};
use crate::checkpoint::{CONFIG_KEY, Checkpoint, Dtype, Hints, Layout};
use crate::error::{Error, Result};

/// The largest extents that are accepted; a larger one means a damaged file. They are several times those of DINOv3's
/// ViT-7B (4096 wide, 40 deep).
const MAX_WIDTH: usize = 16_384;
const MAX_FFN: usize = 65_536;
const MAX_DEPTH: usize = 256;
const MAX_STORAGE_TOKENS: usize = 1024;
const MAX_PATCH: usize = 128;
const MAX_CHANNELS: usize = 256;

/// The width of a head in every published DINOv3 with a plain MLP.
const HEAD_DIM: usize = 64;

impl Config {
    /// Infers the configuration of the model in `checkpoint`.
    ///
    /// Width, depth, MLP width, registers, patch size, channels and biases come from names and shapes. Each comes from
    /// all tensors that show it, so that a single misshapen tensor does not decide. Heads are 64 wide unless
    /// `config.json`, metadata or the stored RoPE periods say otherwise. Epsilon and RoPE precision follow the layout:
    /// 1e-5 and f32 for Meta, Hugging Face and timm; 1e-6 and bf16 for the authors'.
    ///
    /// # Errors
    /// If a size is zero, absurdly large, or contradicts what is stated beside the weights; or if the width is not a
    /// whole number of heads whose width is a multiple of 4 (RoPE needs four equal parts).
    pub fn infer(checkpoint: &Checkpoint) -> Result<Self> {
        infer(checkpoint).map_err(|problem| Error::checkpoint(checkpoint.source_name(), problem))
    }

    /// Returns the configuration that the metadata of this crate's own files states.
    ///
    /// # Errors
    /// If the metadata leaves a field out, or states sizes that [`Config::infer`] refuses.
    pub(super) fn stated(hints: &Hints) -> Result<Self, String> {
        let missing = |field: &str| format!("its metadata {CONFIG_KEY} does not state {field}; write the file again with meddino");
        let size = |field: &str, value: Option<usize>| value.ok_or_else(|| missing(field));
        let config = Self {
            embed_dim: size("embed_dim", hints.embed_dim)?,
            depth: size("depth", hints.depth)?,
            num_heads: size("num_heads", hints.num_heads)?,
            ffn_dim: size("ffn_dim", hints.ffn_dim)?,
            n_storage_tokens: size("n_storage_tokens", hints.n_storage_tokens)?,
            patch_size: size("patch_size", hints.patch_size)?,
            in_chans: size("in_chans", hints.in_chans)?,
            qkv_bias: hints.qkv_bias.ok_or_else(|| missing("qkv_bias"))?,
            mask_token: hints.mask_token.ok_or_else(|| missing("mask_token"))?,
            norm_eps: hints.norm_eps.ok_or_else(|| missing("norm_eps"))?,
            rope: hints.rope.map(rope_of).ok_or_else(|| missing("rope"))?,
            rope_base: hints.rope_base.ok_or_else(|| missing("rope_base"))?,
        };
        check(&config).map(|()| config)
    }
}

fn infer(checkpoint: &Checkpoint) -> Result<Config, String> {
    let hints = checkpoint.hints();
    let extents = Extents::of(checkpoint)?;
    let released = !matches!(checkpoint.layout(), Layout::Meta | Layout::HuggingFace | Layout::Timm);
    let (norm_eps, rope) = if released { (NORM_EPS, RopePrecision::Bf16) } else { (META_NORM_EPS, RopePrecision::F32) };
    let embed_dim = extents.embed_dim;
    let head_dim = checkpoint.periods().map_or(HEAD_DIM, |p| 4 * p.len()).max(1);
    let config = Config {
        embed_dim,
        depth: extents.depth,
        num_heads: hints.num_heads.unwrap_or(embed_dim / head_dim),
        ffn_dim: extents.ffn_dim,
        n_storage_tokens: extents.n_storage_tokens,
        patch_size: extents.patch_size,
        in_chans: extents.in_chans,
        qkv_bias: hints.qkv_bias == Some(true) || checkpoint.entries().iter().any(|e| e.name.ends_with(".attn.qkv.bias")),
        // timm drops the mask token. Any other file without one is incomplete, unless its own hints say so.
        mask_token: hints.mask_token.unwrap_or(*checkpoint.layout() != Layout::Timm) || checkpoint.entry("mask_token").is_some(),
        norm_eps: hints.norm_eps.unwrap_or(norm_eps),
        rope: hints.rope.map_or(rope, rope_of),
        rope_base: hints.rope_base.unwrap_or(100.0),
    };
    check(&config)?;
    let stated = [
        ("width", hints.embed_dim, config.embed_dim),
        ("depth", hints.depth, config.depth),
        ("MLP width", hints.ffn_dim, config.ffn_dim),
        ("number of registers", hints.n_storage_tokens, config.n_storage_tokens),
        ("patch size", hints.patch_size, config.patch_size),
        ("number of input channels", hints.in_chans, config.in_chans),
    ];
    for (what, stated, found) in stated {
        if stated.is_some_and(|stated| stated != found) {
            return Err(format!(
                "its configuration says {what} {}, its weights have {found}; they do not belong together",
                stated.unwrap_or(0)
            ));
        }
    }
    Ok(config)
}

/// Returns the precision of the position embedding that is computed in `dtype`.
fn rope_of(dtype: Dtype) -> RopePrecision {
    if dtype == Dtype::Bf16 { RopePrecision::Bf16 } else { RopePrecision::F32 }
}

/// The extents that shapes and names show.
struct Extents {
    embed_dim: usize,
    depth: usize,
    ffn_dim: usize,
    n_storage_tokens: usize,
    patch_size: usize,
    in_chans: usize,
}

impl Extents {
    fn of(checkpoint: &Checkpoint) -> Result<Self, String> {
        let (mut widths, mut ffns, mut depth) = (Votes::default(), Votes::default(), 0);
        for entry in checkpoint.entries() {
            let shape = &entry.shape;
            match entry.name.as_str() {
                "cls_token" | "mask_token" => widths.cast(shape.last()),
                "norm.weight" | "norm.bias" | "patch_embed.proj.bias" | "patch_embed.proj.weight" => widths.cast(shape.first()),
                _ => {}
            }
            if let Some((index, rest)) = entry.name.strip_prefix("blocks.").and_then(|n| n.split_once('.')) {
                let index: usize = index
                    .parse()
                    .ok()
                    .filter(|i| *i < MAX_DEPTH)
                    .ok_or_else(|| format!("holds {}: more than {MAX_DEPTH} blocks", entry.name))?;
                depth = depth.max(index + 1);
                match rest {
                    "norm1.weight" | "norm2.weight" | "ls1.gamma" => widths.cast(shape.first()),
                    "mlp.fc1.weight" | "mlp.fc1.bias" => ffns.cast(shape.first()),
                    "mlp.fc2.weight" => ffns.cast(shape.last()),
                    _ => {}
                }
            }
        }
        let axis = |name: &str, i: usize| checkpoint.entry(name).and_then(|e| e.shape.get(i).copied());
        let usual = Config::vit_base();
        let embed_dim =
            widths.winner().ok_or("has no tensor that shows the model's width (cls_token, norm.weight, patch_embed.proj.weight)")?;
        Ok(Self {
            embed_dim,
            depth,
            ffn_dim: ffns.winner().unwrap_or(4 * embed_dim),
            n_storage_tokens: axis("storage_tokens", 1).unwrap_or(0),
            // If the weight is missing, the error lists it with the usual shape.
            patch_size: axis("patch_embed.proj.weight", 3).unwrap_or(usual.patch_size),
            in_chans: axis("patch_embed.proj.weight", 1).unwrap_or(usual.in_chans),
        })
    }
}

/// The values that several tensors show for one extent. The most frequent value wins; the largest wins a tie.
#[derive(Default)]
struct Votes(BTreeMap<usize, usize>);

impl Votes {
    fn cast(&mut self, extent: Option<&usize>) {
        if let Some(extent) = extent {
            *self.0.entry(*extent).or_default() += 1;
        }
    }

    fn winner(&self) -> Option<usize> {
        self.0.iter().max_by_key(|(extent, votes)| (**votes, **extent)).map(|(extent, _)| *extent)
    }
}

fn check(config: &Config) -> Result<(), String> {
    let sizes = [
        ("width", config.embed_dim, 1, MAX_WIDTH),
        ("depth", config.depth, 1, MAX_DEPTH),
        ("MLP width", config.ffn_dim, 1, MAX_FFN),
        ("number of registers", config.n_storage_tokens, 0, MAX_STORAGE_TOKENS),
        ("patch size", config.patch_size, 1, MAX_PATCH),
        ("number of input channels", config.in_chans, 1, MAX_CHANNELS),
        ("number of heads", config.num_heads, 1, config.embed_dim),
    ];
    for (what, found, least, most) in sizes {
        if found < least || found > most {
            return Err(format!("its {what} would be {found}; expected {least} to {most}"));
        }
    }
    let (c, heads) = (config.embed_dim, config.num_heads);
    if c % heads != 0 || (c / heads) % 4 != 0 {
        return Err(format!(
            "a width of {c} does not make {heads} heads of a multiple of 4 each; a config.json beside it can say how many heads it has"
        ));
    }
    Ok(())
}
