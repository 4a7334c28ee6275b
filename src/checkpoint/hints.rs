//! What stands in writing about a model: `config.json` beside a Hugging Face file, the metadata inside one of this crate's own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::layout::Layout;
use super::names::printable;
use crate::archive::Dtype;

/// The key of a safetensors file's metadata under which this crate writes a model's configuration, as JSON.
pub const CONFIG_KEY: &str = "meddino.config";

/// What is said about a model beside its weights. A value that is said decides, or must agree with the weights' shapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    /// Width of a token.
    pub embed_dim: Option<usize>,
    /// Number of blocks.
    pub depth: Option<usize>,
    /// Attention heads.
    pub num_heads: Option<usize>,
    /// Width of the MLP's hidden layer.
    pub ffn_dim: Option<usize>,
    /// Storage (register) tokens.
    pub n_storage_tokens: Option<usize>,
    /// Side of a patch in pixels.
    pub patch_size: Option<usize>,
    /// Whether the weights should have a mask token.
    pub mask_token: Option<bool>,
    /// LayerNorm's epsilon.
    pub norm_eps: Option<f32>,
    /// Base of the position embedding's periods.
    pub rope_base: Option<f32>,
    /// What the position embedding is computed in.
    pub rope: Option<Dtype>,
}

/// The hints for a file of this `layout`, and warnings about what is not said. `config` gives the text of `config.json`, if there is one.
pub(super) fn gather(
    layout: &Layout,
    metadata: &BTreeMap<String, String>,
    config: impl FnOnce() -> Result<Option<String>, String>,
) -> Result<(Hints, Vec<String>), String> {
    match layout {
        Layout::Meddino => {
            let text = metadata.get(CONFIG_KEY).map_or("", String::as_str);
            let json = serde_json::from_str(text).map_err(|e| format!("its metadata {CONFIG_KEY} is damaged: {e}"))?;
            Ok((own(&json).map_err(|problem| format!("its metadata {CONFIG_KEY} {problem}"))?, Vec::new()))
        }
        Layout::HuggingFace => match config()? {
            Some(text) => {
                let json = serde_json::from_str(&text).map_err(|e| format!("config.json beside it is damaged: {e}"))?;
                Ok((hugging_face(&json).map_err(|problem| format!("its config.json {problem}"))?, Vec::new()))
            }
            None => Ok((
                Hints::default(),
                vec!["no config.json beside it: heads and epsilon are taken as in every published DINOv3; put its config.json in the same folder".into()],
            )),
        },
        Layout::NnUnet { trainer: None } => Ok((Hints::default(), vec!["no trainer_name in it: taken for a MedDINOv3 trainer's".into()])),
        _ => Ok((Hints::default(), Vec::new())),
    }
}

fn hugging_face(json: &Value) -> Result<Hints, String> {
    const REFUSED: &str = "only DINOv3ViT with a plain GELU MLP is supported";
    match (json["model_type"].as_str(), json["hidden_act"].as_str()) {
        (Some(kind), _) if kind != "dinov3_vit" => return Err(format!("says model_type {}: {REFUSED}", printable(kind))),
        (_, Some(act)) if act != "gelu" => return Err(format!("says hidden_act {}: {REFUSED}", printable(act))),
        _ if json["use_gated_mlp"] == true => return Err(format!("says use_gated_mlp, a SwiGLU MLP: {REFUSED}")),
        _ => {}
    }
    let rope_base = number(json, "rope_theta")?.or(number(&json["rope_parameters"], "rope_theta")?);
    Ok(Hints {
        embed_dim: count(json, "hidden_size")?,
        depth: count(json, "num_hidden_layers")?,
        num_heads: count(json, "num_attention_heads")?,
        ffn_dim: count(json, "intermediate_size")?,
        n_storage_tokens: count(json, "num_register_tokens")?,
        patch_size: count(json, "patch_size")?,
        norm_eps: number(json, "layer_norm_eps")?,
        rope_base,
        ..Hints::default()
    })
}

fn own(json: &Value) -> Result<Hints, String> {
    let rope = match &json["rope"] {
        Value::Null => None,
        Value::String(s) if s == "bf16" => Some(Dtype::Bf16),
        Value::String(s) if s == "f32" => Some(Dtype::F32),
        other => return Err(format!("says rope {}; expected \"bf16\" or \"f32\"", printable(&other.to_string()))),
    };
    Ok(Hints {
        embed_dim: count(json, "embed_dim")?,
        depth: count(json, "depth")?,
        num_heads: count(json, "num_heads")?,
        ffn_dim: count(json, "ffn_dim")?,
        n_storage_tokens: count(json, "n_storage_tokens")?,
        patch_size: count(json, "patch_size")?,
        mask_token: json["mask_token"].as_bool(),
        norm_eps: number(json, "norm_eps")?,
        rope_base: number(json, "rope_base")?,
        rope,
    })
}

/// A whole number; `patch_size` may also be a pair of equal ones.
fn count(json: &Value, key: &str) -> Result<Option<usize>, String> {
    let value = match &json[key] {
        Value::Array(pair) if pair.len() == 2 && pair[0] == pair[1] => &pair[0],
        value => value,
    };
    match (value, value.as_u64()) {
        (Value::Null, _) => Ok(None),
        (_, Some(n)) => Ok(Some(n as usize)),
        _ => Err(format!("says {key} {}; expected a whole number", printable(&value.to_string()))),
    }
}

/// A finite number above zero.
fn number(json: &Value, key: &str) -> Result<Option<f32>, String> {
    let value = &json[key];
    match (value, value.as_f64().map(|v| v as f32)) {
        (Value::Null, _) => Ok(None),
        (_, Some(v)) if v.is_finite() && v > 0.0 => Ok(Some(v)),
        _ => Err(format!("says {key} {}; expected a number above 0", printable(&value.to_string()))),
    }
}
