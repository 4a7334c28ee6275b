//! Which of the known layouts a file's names are of, and what in it is not the backbone.

use std::collections::BTreeMap;
use std::fmt;

use super::container::Reader;
use super::convention::Convention;
use super::hints::CONFIG_KEY;
use super::refuse;
use crate::archive::Stored;

/// How a checkpoint came to be, by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The backbone's names alone, as the authors of MedDINOv3 publish it.
    Flat,
    /// The authors' training checkpoint: the backbone is the teacher's.
    Teacher,
    /// The backbone under one key beside other things.
    Wrapped {
        /// `state_dict`, `model_state_dict` or `model`.
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
    pub(super) const KNOWN: &'static str = "MedDINOv3 (flat, teacher, or under state_dict / model_state_dict / model), \
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
}

/// Name without wrapping -> the file's name and tensor.
pub(super) type Names<'a> = BTreeMap<String, (&'a String, &'a Stored)>;

/// Finds the layout of an open file.
pub(super) fn detect(reader: &Reader) -> Result<Contents<'_>, String> {
    let wrapping = Wrapping::of(reader)?;
    if let Layout::NnUnet { trainer } = &wrapping.layout {
        refuse::trainer(trainer.as_deref())?;
    }
    let (names, decoder, ignored) = wrapping.take_off(reader)?;
    refuse::models(&names)?;
    let convention = Convention::of(&names).ok_or_else(|| unknown(reader))?;
    let layout = match (wrapping.layout, convention) {
        _ if reader.metadata().contains_key(CONFIG_KEY) => Layout::Meddino,
        (_, Convention::HuggingFace) => Layout::HuggingFace,
        (_, Convention::Timm) => Layout::Timm,
        // The authors' own training code sets its numbers whatever the bias; elsewhere a mask is Meta's mark.
        (Layout::Flat | Layout::Wrapped { .. }, Convention::Base) if names.keys().any(|n| n.ends_with(".attn.qkv.bias_mask")) => {
            Layout::Meta
        }
        (layout, Convention::Base) => layout,
    };
    Ok(Contents { layout, convention, names, decoder, ignored })
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

/// What stands around the backbone's names.
struct Wrapping {
    layout: Layout,
    /// The key of the dictionary that holds the network, with its dot.
    outer: String,
    /// The backbone's own prefix within that.
    inner: &'static str,
}

impl Wrapping {
    fn of(reader: &Reader) -> Result<Self, String> {
        let tensors = reader.tensors();
        let under = |key: &str| tensors.range(key.to_string()..).next().is_some_and(|(name, _)| name.starts_with(key));
        if under("network_weights.") {
            let trainer = reader.top_level_string("trainer_name")?;
            return Ok(Self { layout: Layout::NnUnet { trainer }, outer: "network_weights.".into(), inner: "dino_encoder." });
        }
        if under("teacher.") {
            return Ok(Self { layout: Layout::Teacher, outer: "teacher.".into(), inner: "backbone." });
        }
        // Hugging Face has `model.layer.N.` beside `embeddings.`: there, `model` wraps nothing.
        if !tensors.contains_key("embeddings.cls_token") {
            for key in ["state_dict", "model_state_dict", "model"] {
                if under(&format!("{key}.")) {
                    return Ok(Self { layout: Layout::Wrapped { key: key.into() }, outer: format!("{key}."), inner: "backbone." });
                }
            }
        }
        Ok(Self { layout: Layout::Flat, outer: String::new(), inner: "backbone." })
    }

    /// The backbone's names without what is around them, the decoder's, and all that is not the backbone, with reasons.
    fn take_off<'a>(&self, reader: &'a Reader) -> Result<(Names<'a>, Names<'a>, Vec<Ignored>), String> {
        let (mut names, mut decoder, mut ignored) = (Names::new(), Names::new(), Vec::new());
        for (raw, tensor) in reader.tensors() {
            let Some(name) = raw.strip_prefix(&self.outer) else {
                ignored.push(Ignored { name: raw.clone(), reason: self.beside(raw) });
                continue;
            };
            let name = plain(name);
            let name = name.strip_prefix(self.inner).unwrap_or(&name).to_string();
            let reason = head(&name);
            ignored.extend(reason.map(|reason| Ignored { name: raw.clone(), reason }));
            let twice = match reason {
                None => names.insert(name.clone(), (raw, tensor)),
                Some(DECODER) => decoder.insert(name.clone(), (raw, tensor)),
                Some(_) => None,
            };
            if let Some((other, _)) = twice {
                return Err(format!("{other} and {raw} both stand for {name}; keep one of them"));
            }
        }
        Ok((names, decoder, ignored))
    }

    /// Why a tensor outside the network is left out.
    fn beside(&self, raw: &str) -> &'static str {
        match raw.split('.').next().unwrap_or_default() {
            "optimizer" | "optimizer_state" | "optimizer_states" | "optimizer_state_dict" => "optimizer state",
            "student" if self.layout == Layout::Teacher => "the student; the teacher is the model",
            _ => "training state beside the network",
        }
    }
}

/// `name` without the prefixes of data-parallel training (`module.`) and of torch.compile (`_orig_mod.`, which may stand anywhere).
fn plain(name: &str) -> String {
    let mut name = name.replace("_orig_mod.", "");
    while let Some(rest) = name.strip_prefix("module.") {
        name = rest.to_string();
    }
    name
}

/// Why nnU-Net's decoder is left out of the backbone.
const DECODER: &str = "segmentation decoder, no part of the backbone";

/// Why a tensor of the network that is no part of the backbone is left out.
fn head(name: &str) -> Option<&'static str> {
    const HEADS: [(&str, &str); 5] = [
        ("dino_head", "training head"),
        ("ibot", "training head"),
        ("up_projection.", DECODER),
        ("head.", "classification head"),
        ("classifier.", "classification head"),
    ];
    HEADS.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, reason)| *reason)
}
