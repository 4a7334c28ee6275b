//! Finds the wrapping around a backbone's names in a file: the keys of dictionaries, and the modules that training
//! wraps around others.
//!
//! There is one rule: everything before the name of a class token or a patch embedding is wrapping. It therefore does
//! not matter how Lightning, timm or another program nests a model.

use std::collections::BTreeSet;

use super::layout::Layout;
use super::names::{Ignored, Names, printable};
use super::reader::Reader;

/// Modules that hold one other module and do not change what it computes. They come from data-parallel training,
/// torch.compile, FSDP, activation checkpointing and Lightning's Fabric, and may appear anywhere in a name.
const TRANSPARENT: [&str; 5] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// Names that identify a backbone in any convention. Everything before one of them is wrapping.
const OWN: [&str; 4] = ["cls_token", "patch_embed.proj.weight", "embeddings.cls_token", "embeddings.patch_embeddings.weight"];

/// Names for an average of weights over training.
const AVERAGES: [&str; 5] = ["ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict"];

/// The wrapping of the selected backbone.
pub(super) struct Wrapping {
    /// The keys and modules before the backbone's names, outermost first, without the transparent ones.
    path: Vec<String>,
    /// The paths of the other backbones in the file.
    others: Vec<Vec<String>>,
    pub warnings: Vec<String>,
}

impl Wrapping {
    /// Returns the wrapping of the backbone among tensors of these names, or `None` if there is no backbone.
    ///
    /// If there are several backbones, a teacher takes precedence over an average of weights, and an average over any
    /// other. A student comes last.
    ///
    /// # Errors
    /// If there are several backbones, and none takes precedence.
    pub fn of<'a>(names: impl Iterator<Item = &'a String>) -> Result<Option<Self>, String> {
        let paths: BTreeSet<Vec<String>> = names.filter_map(|name| around(&plain(name))).collect();
        let mut others: Vec<_> = paths.into_iter().collect();
        others.sort_by_key(|path| rank(path));
        if others.is_empty() {
            return Ok(None);
        }
        let path = others.remove(0);
        let mut warnings = Vec::new();
        if let Some(other) = others.first() {
            let all: Vec<_> = [&path].into_iter().chain(&others).map(|path| shown(path)).collect();
            let all = all.join(", ");
            if rank(&path) == rank(other) {
                return Err(format!("holds several models: {all}; which one is meant is not clear: save that one alone"));
            }
            warnings.push(format!(
                "holds several models: {all}; the first was taken: a teacher goes before an average of weights (EMA), that before others, a student comes last"
            ));
        } else if rank(&path) == STUDENT {
            warnings.push(format!(
                "holds a student ({}) without its teacher, which is the model that is meant to be used; the student was taken",
                shown(&path)
            ));
        }
        Ok(Some(Self { path, others, warnings }))
    }

    /// Returns the layout that the wrapping alone shows.
    pub fn layout(&self) -> Layout {
        let mut keys: &[String] = &self.path;
        if keys.iter().any(|key| key == "teacher") {
            return Layout::Teacher;
        }
        while let [before @ .., last] = keys
            && last == "backbone"
        {
            keys = before;
        }
        if keys.is_empty() { Layout::Flat } else { Layout::Wrapped { key: printable(&keys.join(".")) } }
    }

    /// Removes the wrapping. Returns the backbone's tensors, the decoder's tensors, and all that is not the backbone,
    /// with reasons.
    pub fn take_off<'a>(&self, reader: &'a Reader) -> Result<(Names<'a>, Names<'a>, Vec<Ignored>), String> {
        let (mut names, mut decoder, mut ignored) = (Names::new(), Names::new(), Vec::new());
        for (raw, tensor) in reader.tensors() {
            let (name, reason) = self.meaning(&plain(raw));
            ignored.extend(reason.map(|reason| Ignored { name: raw.clone(), reason }));
            let twice = match reason {
                None => names.insert(name.clone(), (raw, tensor)),
                Some(DECODER) => decoder.insert(name.clone(), (raw, tensor)),
                Some(_) => None,
            };
            if let Some((other, _)) = twice {
                return Err(format!("{} and {} both stand for {}; keep one of them", printable(other), printable(raw), printable(&name)));
            }
        }
        Ok((names, decoder, ignored))
    }

    /// Returns a tensor's name without the wrapping, and the reason if the tensor is left out.
    fn meaning(&self, parts: &[&str]) -> (String, Option<&'static str>) {
        let shared = parts.iter().zip(&self.path).take_while(|(part, key)| *part == key).count();
        let name = parts[shared..].join(".");
        let is_inside = shared == self.path.len();
        let is_of_another =
            |other: &Vec<String>| other.len() > shared && parts.iter().zip(other).filter(|(part, key)| *part == key).count() == other.len();
        let reason = match parts.get(shared) {
            _ if self.others.iter().any(is_of_another) => Some("another model in the file"),
            Some(&("optimizer" | "optimizer_state" | "optimizer_states" | "optimizer_state_dict")) if !is_inside => Some("optimizer state"),
            _ => head(&name).or((!is_inside).then_some("training state beside the network")),
        };
        (name, reason)
    }
}

/// Returns the rank of a model by its path. The lowest rank takes precedence.
fn rank(path: &[String]) -> u8 {
    let has = |words: &[&str]| path.iter().any(|key| words.contains(&key.as_str()));
    match () {
        () if has(&["student"]) => STUDENT,
        () if has(&["teacher"]) => 0,
        () if has(&AVERAGES) => 1,
        () => 2,
    }
}

/// The rank of a student.
const STUDENT: u8 = 3;

/// Splits a name into its parts, without transparent modules.
fn plain(name: &str) -> Vec<&str> {
    name.split('.').filter(|part| !TRANSPARENT.contains(part)).collect()
}

/// Returns the path before the backbone's name, if the parts end with one of [`OWN`]. Names in an optimizer's state
/// continue after it, so they do not match.
fn around(parts: &[&str]) -> Option<Vec<String>> {
    let at = (0..parts.len()).find(|&at| OWN.contains(&parts[at..].join(".").as_str()))?;
    Some(parts[..at].iter().map(ToString::to_string).collect())
}

fn shown(path: &[String]) -> String {
    if path.is_empty() { "one without a key".into() } else { printable(&path.join(".")) }
}

/// The reason why nnU-Net's decoder is left out of the backbone.
const DECODER: &str = "segmentation decoder, no part of the backbone";

/// Returns the reason why a tensor of the network is left out, if it is no part of the backbone.
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
