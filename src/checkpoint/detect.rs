//! Detects which known layout a file has, and separates the backbone's tensors from all others.

use super::convention::Convention;
use super::hints::CONFIG_KEY;
use super::layout::Layout;
use super::names::{Ignored, Names, printable};
use super::reader::Reader;
use super::refuse;
use super::wrapping::Wrapping;
use crate::error::Problem;

/// A file's tensors without the wrapping around their names.
pub(super) struct Contents<'a> {
    pub layout: Layout,
    pub convention: Convention,
    /// The backbone's tensors: name without wrapping -> name in the file, and tensor.
    pub names: Names<'a>,
    /// The tensors of nnU-Net's segmentation decoder, in the same form. `ignored` lists them, too.
    pub decoder: Names<'a>,
    pub ignored: Vec<Ignored>,
    /// Facts about the file that may surprise a user.
    pub warnings: Vec<String>,
}

/// Finds the layout of an open file.
pub(super) fn detect(reader: &Reader) -> Result<Contents<'_>, Problem> {
    let is_nnunet = reader.tensors().keys().any(|name| name.starts_with("network_weights."));
    let nnunet = if is_nnunet { Some(Layout::NnUnet { trainer: reader.top_level_string("trainer_name")? }) } else { None };
    if let Some(Layout::NnUnet { trainer }) = &nnunet {
        refuse::trainer(trainer.as_deref(), |part| reader.tensors().keys().any(|name| name.contains(part)))?;
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
        // In a flat or wrapped file, a bias mask shows that the weights are Meta's. A teacher or nnU-Net file stays the
        // authors', because their training code sets epsilon and RoPE precision whatever the bias is.
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
