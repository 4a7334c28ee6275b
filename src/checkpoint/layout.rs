//! Which of the known layouts a file's names are of, and what in it is not the backbone.

use std::collections::BTreeMap;
use std::fmt;

use super::container::Reader;
use super::convention::Convention;
use super::hints::CONFIG_KEY;
use super::refuse;
use super::wrapping::Wrapping;
use crate::archive::Stored;

/// How a checkpoint came to be, by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The backbone's names alone, as the authors of MedDINOv3 publish it.
    Flat,
    /// The authors' training checkpoint: the backbone is the teacher's.
    Teacher,
    /// The backbone under a key, or under several, beside other things.
    Wrapped {
        /// `state_dict`, `model`, `state_dict.model` and so on.
        key: String,
    },
    /// Meta's DINOv3: a qkv bias with its mask.
    Meta,
    /// Hugging Face's DINOv3ViT.
    HuggingFace,
    /// timm's `vit_*_dinov3`, with or without `_qkvb`.
    Timm,
    /// nnU-Net's `checkpoint_final.pth`.
    NnUnet {
        /// The class that trained it.
        trainer: Option<String>,
    },
    /// Written by this crate: its own names, the configuration in the metadata.
    Meddino,
    /// No file: computed from a seed.
    Seeded,
}

impl Layout {
    /// Every layout that a file can have, for messages.
    pub(super) const KNOWN: &'static str = "MedDINOv3 (flat, teacher, or under other keys such as state_dict.model), \
        Meta DINOv3, Hugging Face DINOv3ViT, timm vit_*_dinov3, nnU-Net checkpoint_final.pth, and meddino's own .safetensors";

    /// One lower-case word, for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Teacher => "teacher",
            Self::Wrapped { .. } => "wrapped",
            Self::Meta => "meta",
            Self::HuggingFace => "huggingface",
            Self::Timm => "timm",
            Self::NnUnet { .. } => "nnunet",
            Self::Meddino => "meddino",
            Self::Seeded => "seeded",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat => f.write_str("flat (the backbone's names alone)"),
            Self::Teacher => f.write_str("training checkpoint (teacher backbone)"),
            Self::Wrapped { key } => write!(f, "wrapped (under {key})"),
            Self::Meta => f.write_str("Meta DINOv3 (masked qkv bias)"),
            Self::HuggingFace => f.write_str("Hugging Face DINOv3ViT"),
            Self::Timm => f.write_str("timm vit_*_dinov3"),
            Self::NnUnet { trainer: Some(trainer) } => write!(f, "nnU-Net checkpoint of {trainer}"),
            Self::NnUnet { trainer: None } => f.write_str("nnU-Net checkpoint"),
            Self::Meddino => f.write_str("meddino"),
            Self::Seeded => f.write_str("seeded (untrained)"),
        }
    }
}

/// A tensor of the file that is no parameter of the backbone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The file's name for it.
    pub name: String,
    /// Why it is left out.
    pub reason: &'static str,
}

/// A file's tensors after its wrapping is taken off.
pub(super) struct Contents<'a> {
    pub layout: Layout,
    pub convention: Convention,
    /// The backbone's tensors: name without wrapping -> name in the file and tensor.
    pub names: Names<'a>,
    /// The tensors of nnU-Net's segmentation decoder, likewise; they are among the ignored, too.
    pub decoder: Names<'a>,
    pub ignored: Vec<Ignored>,
    /// What a user should know and may not expect.
    pub warnings: Vec<String>,
}

/// Name without wrapping -> the file's name and tensor.
pub(super) type Names<'a> = BTreeMap<String, (&'a String, &'a Stored)>;

/// Finds the layout of an open file.
pub(super) fn detect(reader: &Reader) -> Result<Contents<'_>, String> {
    let is_nnunet = reader.tensors().keys().any(|name| name.starts_with("network_weights."));
    let nnunet = if is_nnunet { Some(Layout::NnUnet { trainer: reader.top_level_string("trainer_name")? }) } else { None };
    if let Some(Layout::NnUnet { trainer }) = &nnunet {
        refuse::trainer(trainer.as_deref())?;
    }
    refuse::parts(reader.tensors().keys())?;
    let wrapping = Wrapping::of(reader.tensors().keys())?.ok_or_else(|| unknown(reader))?;
    let (names, decoder, ignored) = wrapping.take_off(reader)?;
    refuse::models(&names)?;
    let convention = Convention::of(&names).ok_or_else(|| unknown(reader))?;
    let layout = match (nnunet.unwrap_or_else(|| wrapping.layout()), convention) {
        _ if reader.metadata().contains_key(CONFIG_KEY) => Layout::Meddino,
        (_, Convention::HuggingFace) => Layout::HuggingFace,
        (_, Convention::Timm) => Layout::Timm,
        // The authors' own training code sets its numbers whatever the bias; elsewhere a mask is Meta's mark.
        (Layout::Flat | Layout::Wrapped { .. }, Convention::Base) if names.keys().any(|n| n.ends_with(".attn.qkv.bias_mask")) => {
            Layout::Meta
        }
        (layout, Convention::Base) => layout,
    };
    Ok(Contents { layout, convention, names, decoder, ignored, warnings: wrapping.warnings })
}

fn unknown(reader: &Reader) -> String {
    let tensors = reader.tensors();
    let mut first: Vec<_> = tensors.keys().take(5).map(|name| printable(name)).collect();
    if first.is_empty() {
        first.push("no tensor at all".into());
    }
    format!("is of no known layout: it holds {} ({} tensors). Known are {}", first.join(", "), tensors.len(), Layout::KNOWN)
}

/// A name from a file, made harmless for a terminal and short.
pub(super) fn printable(name: &str) -> String {
    let short: String = name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(80).is_some() { short + "..." } else { short }
}
