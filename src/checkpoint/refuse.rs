//! Refuses checkpoints of known models that are not supported. Each error names the model and the reason.

#[cfg(feature = "files")]
use std::path::Path;

use super::names::{Names, printable};

/// The nnU-Net trainers whose encoder is the authors' `vit_base`.
const TRAINERS: [&str; 3] =
    ["meddinov3_base_primus_multiscale_Trainer", "dinov3_base_primus_multiscale_Trainer", "dinov3_base_primus_Trainer"];

/// Refuses files whose tensor names show that they hold parts of a model, or a model of another kind.
pub(super) fn parts<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    for name in names {
        let parts: Vec<&str> = name.split('.').collect();
        let has = |words: &[&str]| parts.iter().any(|part| words.contains(part));
        if has(&["_flat_param", "flat_param"]) {
            return Err(format!(
                "holds {}: parameters that FSDP has joined and may have divided; save it with FSDP's StateDictType.FULL_STATE_DICT",
                printable(name)
            ));
        }
        if has(&["downsample_layers"]) || (has(&["stages"]) && has(&["dwconv", "depthwise_conv", "conv_dw"])) {
            return Err(format!(
                "holds {}: a ConvNeXt (as DINOv3's smaller ones); only vision transformers are supported: take a ViT-S, B or L of the same family",
                printable(name)
            ));
        }
    }
    Ok(())
}

/// Refuses models whose tensors show that they are not supported.
pub(super) fn models(names: &Names) -> Result<(), String> {
    for (name, (_, tensor)) in names {
        if is_chunked(name) {
            return Err(format!(
                "holds {}: its blocks stand in chunks (block_chunks in DINOv2's and DINOv3's code); save it with names of the form blocks.N. \
                 (Python: {{re.sub(r\"blocks\\.\\d+\\.(\\d+\\.)\", r\"blocks.\\1\", name): tensor for name, tensor in weights.items()}})",
                printable(name)
            ));
        }
        let kind = if [".mlp.w1.", ".mlp.w12.", ".mlp.gate_proj.", ".mlp.fc1_g."].iter().any(|part| name.contains(part)) {
            "a SwiGLU MLP (as DINOv3 ViT-H+ and ViT-7B); only the plain MLP of ViT-S, B and L is supported"
        } else if name.starts_with("cls_norm.") || name.starts_with("local_cls_norm.") {
            "norms of its own for the class token (as DINOv3 ViT-L for satellites and ViT-7B); only one norm for all tokens is supported"
        } else if name.starts_with("patch_embed_2D.") || name.starts_with("patch_embed_3D.") {
            "FlexiCT's flexible patch embedding; FlexiCT is another model family and is not supported"
        } else if name == "patch_embed.proj.weight" && tensor.shape.len() == 5 {
            "a patch embedding of volumes (as FlexiCT-3D); only models of slices are supported"
        } else if name == "pos_embed" || name == "embeddings.position_embeddings" {
            "learned position embeddings (as DINOv2 and the plain ViT); only DINOv3, with rotary ones, is supported"
        } else {
            continue;
        };
        return Err(format!("holds {}: {kind}", printable(name)));
    }
    Ok(())
}

/// Returns whether `name` is of a block within a chunk: `blocks.0.3.norm1.weight` is of block 3 in chunk 0.
fn is_chunked(name: &str) -> bool {
    let is_number = |part: Option<&str>| part.is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let mut parts = name.split('.');
    parts.next() == Some("blocks") && is_number(parts.next()) && is_number(parts.next())
}

/// Returns the supported trainer that `name` is, or that it is named after as nnU-Net names subclasses:
/// `..._Trainer_250epochs`.
pub fn known_trainer(name: &str) -> Option<&'static str> {
    TRAINERS.into_iter().find(|trainer| name.starts_with(trainer))
}

/// Refuses nnU-Net trainers that train a different network. A trainer of another name passes if the file has tensors with
/// names of the supported network, which `has` tells by a part of a name: it may be a subclass. The shapes of its weights
/// are checked when they are read.
pub(super) fn trainer(name: Option<&str>, has: impl Fn(&str) -> bool) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let is_flexict = name.to_lowercase().contains("flexict");
    if known_trainer(name).is_some() || !is_flexict && has("dino_encoder.blocks.") && has("up_projection.decode.") {
        return Ok(());
    }
    let why = if is_flexict { " (FlexiCT is another model family)" } else { "" };
    let name = printable(name);
    Err(format!("was trained by {name}{why}, whose network is not MedDINOv3's. Supported trainers: {}", TRAINERS.join(", ")))
}

/// Refuses a file that is one part of a model: a shard, or a piece of a distributed checkpoint.
#[cfg(feature = "files")]
pub(super) fn part_of_a_model(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let index = path.with_file_name("model.safetensors.index.json");
    if name.contains("-of-") && index.exists() {
        return Err(format!("is one shard of a model; name the index of all shards instead: {}", index.display()));
    }
    let is_part = |path: &Path| path.file_name().is_some_and(|name| name == ".metadata") || path.extension().is_some_and(|e| e == "distcp");
    let mut entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    if is_part(path) || entries.any(|entry| is_part(&entry.path())) {
        return Err(
            "is, or belongs to, a folder of PyTorch's distributed checkpoints (DCP: .metadata and *.distcp); make one file of it: \
            python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pth"
                .into(),
        );
    }
    Ok(())
}
