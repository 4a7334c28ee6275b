//! The model's parameters as a tree, each named as in the checkpoint. Only this file and `checkpoint/` know the names
//! of the model's tensors.
//!
//! The tree is generic over its leaves: a [`Spec`] (name and shape, which a checkpoint must hold), a host
//! [`Tensor`](crate::Tensor), or a tensor of a graph. [`Weights::specs`] is the only list of names and shapes; every
//! other tree is mapped from it.

use super::config::Config;

/// Name and shape of one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The checkpoint's name, e.g. `blocks.3.attn.qkv.weight`.
    pub name: String,
    /// The shape, outermost axis first.
    pub shape: Vec<usize>,
}

/// All parameters of the model. `T` is the type of the leaves, `L` the type of the linear layers, which a backend may
/// store in its own form.
#[derive(Clone, Debug)]
pub struct Weights<T, L = Linear<T>> {
    /// `cls_token` [1, 1, C]
    pub cls_token: T,
    /// `storage_tokens` [1, R, C]; absent when R is 0.
    pub storage_tokens: Option<T>,
    /// `mask_token` [1, C]; absent in layouts without masked training (timm).
    pub mask_token: Option<T>,
    /// `patch_embed.proj`: [C, in_chans, p, p] and `[C]`
    pub patch_embed: L,
    /// The transformer blocks, first to last.
    pub blocks: Vec<Block<T, L>>,
    /// The final `norm`.
    pub norm: Norm<T>,
}

/// One transformer block: `x += ls1 * attn(norm1(x)); x += ls2 * mlp(norm2(x))`.
#[derive(Clone, Debug)]
pub struct Block<T, L = Linear<T>> {
    /// LayerNorm before attention.
    pub norm1: Norm<T>,
    /// Self-attention.
    pub attn: Attention<L>,
    /// `ls1.gamma` `[C]`
    pub ls1: T,
    /// LayerNorm before the MLP.
    pub norm2: Norm<T>,
    /// The MLP.
    pub mlp: Mlp<L>,
    /// `ls2.gamma` `[C]`
    pub ls2: T,
}

/// `attn.*`
#[derive(Clone, Debug)]
pub struct Attention<L> {
    /// [3C, C]: rows are q, k, v, each `num_heads` heads of `head_dim`.
    pub qkv: L,
    /// [C, C]
    pub proj: L,
}

/// `mlp.*`
#[derive(Clone, Debug)]
pub struct Mlp<L> {
    /// [ffn_dim, C]
    pub fc1: L,
    /// [C, ffn_dim]
    pub fc2: L,
}

/// A linear layer, `y = x weight^T + bias`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// [out, in]
    pub weight: T,
    /// `[out]`
    pub bias: Option<T>,
}

/// LayerNorm's scale and shift.
#[derive(Clone, Debug)]
pub struct Norm<T> {
    /// `[C]`
    pub weight: T,
    /// `[C]`
    pub bias: T,
}

impl Weights<Spec> {
    /// Returns the names and shapes of all parameters of a model of this `config`.
    pub fn specs(config: &Config) -> Self {
        let (c, p, r) = (config.embed_dim, config.patch_size, config.n_storage_tokens);
        Self {
            cls_token: spec("cls_token", [1, 1, c]),
            storage_tokens: (r > 0).then(|| spec("storage_tokens", [1, r, c])),
            mask_token: config.mask_token.then(|| spec("mask_token", [1, c])),
            patch_embed: Linear {
                weight: spec("patch_embed.proj.weight", [c, config.in_chans, p, p]),
                bias: Some(spec("patch_embed.proj.bias", [c])),
            },
            blocks: (0..config.depth).map(|i| Block::specs(config, &format!("blocks.{i}."))).collect(),
            norm: Norm::specs("norm", c),
        }
    }
}

impl Block<Spec> {
    fn specs(config: &Config, at: &str) -> Self {
        let (c, h) = (config.embed_dim, config.ffn_dim);
        Self {
            norm1: Norm::specs(&format!("{at}norm1"), c),
            attn: Attention {
                qkv: Linear::specs(&format!("{at}attn.qkv"), 3 * c, c, config.qkv_bias),
                proj: Linear::specs(&format!("{at}attn.proj"), c, c, true),
            },
            ls1: spec(format!("{at}ls1.gamma"), [c]),
            norm2: Norm::specs(&format!("{at}norm2"), c),
            mlp: Mlp { fc1: Linear::specs(&format!("{at}mlp.fc1"), h, c, true), fc2: Linear::specs(&format!("{at}mlp.fc2"), c, h, true) },
            ls2: spec(format!("{at}ls2.gamma"), [c]),
        }
    }
}

impl Norm<Spec> {
    fn specs(at: &str, c: usize) -> Self {
        Self { weight: spec(format!("{at}.weight"), [c]), bias: spec(format!("{at}.bias"), [c]) }
    }
}

impl Linear<Spec> {
    fn specs(at: &str, out: usize, inner: usize, bias: bool) -> Self {
        Self { weight: spec(format!("{at}.weight"), [out, inner]), bias: bias.then(|| spec(format!("{at}.bias"), [out])) }
    }
}

fn spec(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Spec {
    Spec { name: name.into(), shape: shape.into() }
}

impl<T> Weights<T> {
    /// Applies `f` to each leaf, in the checkpoint's order, and returns the tree of results. Stops at the first error.
    ///
    /// # Errors
    /// The first error that `f` returns.
    pub fn try_map<'a, U, E>(&'a self, f: &mut impl FnMut(&'a T) -> Result<U, E>) -> Result<Weights<U>, E> {
        Ok(Weights {
            cls_token: f(&self.cls_token)?,
            storage_tokens: self.storage_tokens.as_ref().map(&mut *f).transpose()?,
            mask_token: self.mask_token.as_ref().map(&mut *f).transpose()?,
            patch_embed: self.patch_embed.try_map(f)?,
            blocks: self.blocks.iter().map(|b| b.try_map(f)).collect::<Result<_, E>>()?,
            norm: self.norm.try_map(f)?,
        })
    }

    /// Applies `f` to each leaf, in the checkpoint's order, and returns the tree of results.
    pub fn map<'a, U>(&'a self, f: &mut impl FnMut(&'a T) -> U) -> Weights<U> {
        let Ok(mapped) = self.try_map(&mut |t: &'a T| Ok::<U, std::convert::Infallible>(f(t)));
        mapped
    }

    /// Converts each linear layer with `f`, one after the other, and keeps the rest of the tree.
    pub fn map_linears<L>(self, f: impl Fn(Linear<T>) -> L) -> Weights<T, L> {
        let block = |b: Block<T>| Block {
            norm1: b.norm1,
            attn: Attention { qkv: f(b.attn.qkv), proj: f(b.attn.proj) },
            ls1: b.ls1,
            norm2: b.norm2,
            mlp: Mlp { fc1: f(b.mlp.fc1), fc2: f(b.mlp.fc2) },
            ls2: b.ls2,
        };
        Weights {
            cls_token: self.cls_token,
            storage_tokens: self.storage_tokens,
            mask_token: self.mask_token,
            patch_embed: f(self.patch_embed),
            blocks: self.blocks.into_iter().map(block).collect(),
            norm: self.norm,
        }
    }

    /// Returns the leaves, in the checkpoint's order.
    pub fn leaves(&self) -> Vec<&T> {
        let mut leaves = Vec::new();
        self.map(&mut |leaf| leaves.push(leaf));
        leaves
    }
}

impl<T> Block<T> {
    fn try_map<'a, U, E>(&'a self, f: &mut impl FnMut(&'a T) -> Result<U, E>) -> Result<Block<U>, E> {
        Ok(Block {
            norm1: self.norm1.try_map(f)?,
            attn: Attention { qkv: self.attn.qkv.try_map(f)?, proj: self.attn.proj.try_map(f)? },
            ls1: f(&self.ls1)?,
            norm2: self.norm2.try_map(f)?,
            mlp: Mlp { fc1: self.mlp.fc1.try_map(f)?, fc2: self.mlp.fc2.try_map(f)? },
            ls2: f(&self.ls2)?,
        })
    }
}

impl<T> Linear<T> {
    pub(super) fn try_map<'a, U, E>(&'a self, f: &mut impl FnMut(&'a T) -> Result<U, E>) -> Result<Linear<U>, E> {
        Ok(Linear { weight: f(&self.weight)?, bias: self.bias.as_ref().map(&mut *f).transpose()? })
    }
}

impl<T> Norm<T> {
    pub(super) fn try_map<'a, U, E>(&'a self, f: &mut impl FnMut(&'a T) -> Result<U, E>) -> Result<Norm<U>, E> {
        Ok(Norm { weight: f(&self.weight)?, bias: f(&self.bias)? })
    }
}
