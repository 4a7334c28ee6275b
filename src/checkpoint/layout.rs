//! The known checkpoint layouts.

use std::fmt;

/// The origin of a checkpoint, detected from its tensor names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Only the backbone's names, as in the file that the authors of MedDINOv3 publish.
    Flat,
    /// The authors' training checkpoint, of which the teacher's backbone is taken.
    Teacher,
    /// The backbone under one or several keys, beside other content.
    Wrapped {
        /// `state_dict`, `model`, `state_dict.model` and so on.
        key: String,
    },
    /// Meta's DINOv3, which has a qkv bias with a mask.
    Meta,
    /// Hugging Face's DINOv3ViT.
    HuggingFace,
    /// timm's `vit_*_dinov3`, with or without `_qkvb`.
    Timm,
    /// nnU-Net's `checkpoint_final.pth`.
    NnUnet {
        /// The trainer class.
        trainer: Option<String>,
    },
    /// Written by this crate, with its own names and with the configuration in the metadata.
    Meddino,
    /// No file; the weights are computed from a seed.
    Seeded,
}

impl Layout {
    /// Every layout that a file can have, for messages.
    pub(super) const KNOWN: &'static str = "MedDINOv3 (flat, teacher, or under other keys such as state_dict.model), \
        Meta DINOv3, Hugging Face DINOv3ViT, timm vit_*_dinov3, nnU-Net checkpoint_final.pth, and meddino's own .safetensors";

    /// Returns one lower-case word for machine-readable output.
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
