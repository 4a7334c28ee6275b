//! Checkpoints that are known, and known not to be this model: each is refused by its name, with the reason.

use std::path::Path;

use super::layout::{Names, printable};

/// The nnU-Net trainers whose encoder is the authors' `vit_base`.
const TRAINERS: [&str; 3] =
    ["meddinov3_base_primus_multiscale_Trainer", "dinov3_base_primus_multiscale_Trainer", "dinov3_base_primus_Trainer"];

/// Models whose tensors betray them.
pub(super) fn models(names: &Names) -> Result<(), String> {
    for (name, (_, tensor)) in names {
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

/// nnU-Net trainers whose network is another one.
pub(super) fn trainer(name: Option<&str>) -> Result<(), String> {
    match name {
        Some(name) if !TRAINERS.contains(&name) => {
            let why = if name.to_lowercase().contains("flexict") { " (FlexiCT is another model family)" } else { "" };
            let name = printable(name);
            Err(format!("was trained by {name}{why}, whose network is not MedDINOv3's. Supported trainers: {}", TRAINERS.join(", ")))
        }
        _ => Ok(()),
    }
}

/// One part of a model that was saved in several files.
pub(super) fn shards(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let shard = name.contains("-of-") && path.with_file_name("model.safetensors.index.json").exists();
    if shard || name.ends_with(".index.json") {
        return Err("belongs to a sharded model; only single files are supported: save it as one \
            (Python: model.save_pretrained(folder, max_shard_size=\"100GB\"))"
            .into());
    }
    Ok(())
}
