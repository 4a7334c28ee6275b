//! The naming conventions for the same parameters: the authors' (which this crate uses), Hugging Face's and timm's.

use std::collections::BTreeMap;

use super::composition::Composition;
use super::names::{Ignored, Names, printable};

/// The naming convention of a backbone's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    /// Meta's DINOv3 code, which MedDINOv3 and this crate share.
    Base,
    HuggingFace,
    Timm,
}

/// The role that a tensor of the file has in the model.
enum Role {
    /// The whole parameter of this name.
    Whole(String),
    /// The q (0), k (1) or v (2) part of the parameter of this name.
    Part(String, usize),
    /// The mask of the bias of this name.
    Mask(String),
    /// The periods of the position embedding, which are recomputed.
    Periods,
}

/// The composition of each parameter, and the raw name of the periods if the file has them.
pub(super) struct Assembled {
    pub compositions: BTreeMap<String, Composition>,
    pub periods: Option<String>,
}

impl Convention {
    /// Returns the convention that the names follow, or `None` if they belong to no known vision transformer.
    pub fn of(names: &Names) -> Option<Self> {
        let any = |test: fn(&str) -> bool| names.keys().any(|n| test(n));
        if any(|n| n.starts_with("embeddings.")) {
            Some(Self::HuggingFace)
        } else if any(|n| n == "reg_token" || n.ends_with(".gamma_1")) {
            Some(Self::Timm)
        } else if any(|n| n == "cls_token" || n.starts_with("patch_embed.") || n.starts_with("blocks.")) {
            Some(Self::Base)
        } else {
            None
        }
    }

    /// Returns a composition for every tensor in `names`. A tensor that this convention does not know keeps its name, so
    /// that it is reported as unexpected.
    pub fn assemble(self, names: &Names, ignored: &mut Vec<Ignored>) -> Result<Assembled, String> {
        let mut compositions = BTreeMap::new();
        let mut parts: BTreeMap<String, [Option<String>; 3]> = BTreeMap::new();
        let mut masks = BTreeMap::new();
        let mut periods = None;
        for (name, (raw, tensor)) in names {
            let raw = (*raw).clone();
            let twice = match self.role(name) {
                Role::Whole(name) if name == "mask_token" && tensor.shape.len() == 3 && tensor.shape[0] == 1 => {
                    compositions.insert(name, Composition::Squeezed(raw)).is_some()
                }
                Role::Whole(name) => compositions.insert(name, Composition::Whole(raw)).is_some(),
                Role::Part(name, i) => parts.entry(name).or_default()[i].replace(raw).is_some(),
                Role::Mask(name) => masks.insert(name, raw).is_some(),
                Role::Periods => {
                    ignored.push(Ignored { name: raw.clone(), reason: "position embedding, computed anew" });
                    periods.replace(raw).is_some()
                }
            };
            if twice {
                return Err(format!("two tensors stand for what {} is; keep one of them", printable(name)));
            }
        }
        for (name, parts) in parts {
            stack(&name, parts, &mut compositions)?;
        }
        for (name, mask) in masks {
            mask_bias(&name, mask, &mut compositions);
        }
        Ok(Assembled { compositions, periods })
    }

    fn role(self, name: &str) -> Role {
        match self {
            Self::Base => base(name),
            Self::HuggingFace => hugging_face(name).unwrap_or_else(|| Role::Whole(name.into())),
            Self::Timm => timm(name),
        }
    }
}

/// Stacks q, k and v. Only a bias may lack a part (k's, which does not change attention). If a weight lacks a part, the
/// present parts stay under their own names, so that the error lists them beside the missing parameter.
fn stack(name: &str, parts: [Option<String>; 3], compositions: &mut BTreeMap<String, Composition>) -> Result<(), String> {
    let (_, kind) = name.rsplit_once('.').unwrap_or_default();
    if kind == "bias" || parts.iter().all(Option::is_some) {
        if compositions.insert(name.to_string(), Composition::Stacked(parts)).is_some() {
            return Err(format!("{name} is in it both as one and as q, k and v; keep one of them"));
        }
    } else {
        compositions.extend(parts.into_iter().flatten().map(|raw| (raw.clone(), Composition::Whole(raw))));
    }
    Ok(())
}

/// Folds a mask into its bias. Without a bias, the mask stays under its own name and is reported as unexpected.
fn mask_bias(name: &str, mask: String, compositions: &mut BTreeMap<String, Composition>) {
    if let Some(Composition::Whole(bias)) = compositions.get(name).cloned() {
        compositions.insert(name.to_string(), Composition::Masked { bias, mask });
    } else {
        compositions.insert(mask.clone(), Composition::Whole(mask));
    }
}

fn base(name: &str) -> Role {
    match name.strip_suffix("_mask") {
        Some(bias) if bias.ends_with(".attn.qkv.bias") => Role::Mask(bias.into()),
        _ if name == "rope_embed.periods" => Role::Periods,
        _ => Role::Whole(name.into()),
    }
}

/// Maps the names of timm's `Eva`. timm does not save the k bias, which is a buffer of zeros, and has no mask token.
fn timm(name: &str) -> Role {
    if name == "reg_token" {
        return Role::Whole("storage_tokens".into());
    }
    let Some((block, rest)) = split_block(name, "blocks.") else { return Role::Whole(name.into()) };
    match rest {
        "gamma_1" => Role::Whole(format!("{block}ls1.gamma")),
        "gamma_2" => Role::Whole(format!("{block}ls2.gamma")),
        "attn.q_bias" => Role::Part(format!("{block}attn.qkv.bias"), 0),
        "attn.k_bias" => Role::Part(format!("{block}attn.qkv.bias"), 1),
        "attn.v_bias" => Role::Part(format!("{block}attn.qkv.bias"), 2),
        _ => Role::Whole(name.into()),
    }
}

/// Maps the names of Hugging Face's `DINOv3ViTModel`. Returns `None` for a name that it does not have.
fn hugging_face(name: &str) -> Option<Role> {
    let whole = match name {
        "embeddings.cls_token" => "cls_token",
        "embeddings.mask_token" => "mask_token",
        "embeddings.register_tokens" => "storage_tokens",
        "embeddings.patch_embeddings.weight" => "patch_embed.proj.weight",
        "embeddings.patch_embeddings.bias" => "patch_embed.proj.bias",
        "norm.weight" | "norm.bias" => name,
        _ => return hugging_face_block(name),
    };
    Some(Role::Whole(whole.into()))
}

fn hugging_face_block(name: &str) -> Option<Role> {
    let (block, rest) = split_block(name, "layer.").or_else(|| split_block(name, "model.layer."))?;
    let (layer, kind) = rest.rsplit_once('.')?;
    let part = ["attention.q_proj", "attention.k_proj", "attention.v_proj"].iter().position(|p| *p == layer);
    if let (Some(i), "weight" | "bias") = (part, kind) {
        return Some(Role::Part(format!("{block}attn.qkv.{kind}"), i));
    }
    let ours = match (layer, kind) {
        ("layer_scale1", "lambda1") => "ls1.gamma".into(),
        ("layer_scale2", "lambda1") => "ls2.gamma".into(),
        ("norm1" | "norm2", "weight" | "bias") => rest.to_string(),
        ("attention.o_proj", "weight" | "bias") => format!("attn.proj.{kind}"),
        ("mlp.up_proj", "weight" | "bias") => format!("mlp.fc1.{kind}"),
        ("mlp.down_proj", "weight" | "bias") => format!("mlp.fc2.{kind}"),
        _ => return None,
    };
    Some(Role::Whole(block + &ours))
}

/// Splits a block's name: `layer.3.norm1.weight` -> (`blocks.3.`, `norm1.weight`)
fn split_block<'a>(name: &'a str, prefix: &str) -> Option<(String, &'a str)> {
    let (index, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    index.bytes().all(|b| b.is_ascii_digit()).then(|| (format!("blocks.{index}."), rest))
}
