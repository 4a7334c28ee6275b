//! The layouts that are known.

use std::fmt;

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
