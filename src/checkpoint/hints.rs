//! Hints about a model from text: the `config.json` beside a Hugging Face file, or the metadata in one of this crate's
//! own files.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::layout::Layout;
use super::names::printable;
use super::refuse;
use crate::archive::Dtype;
use crate::error::Problem;

/// The metadata key under which this crate writes a model's configuration, as JSON, into a safetensors file.
pub const CONFIG_KEY: &str = "meddino.config";

/// Facts about a model that text beside its weights states. A stated value decides, or must agree with the weights'
/// shapes.
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
    /// Channels of the image.
    pub in_chans: Option<usize>,
    /// Whether `attn.qkv` should have a bias.
    pub qkv_bias: Option<bool>,
    /// Whether the weights should have a mask token.
    pub mask_token: Option<bool>,
    /// LayerNorm's epsilon.
    pub norm_eps: Option<f32>,
    /// Base of the position embedding's periods.
    pub rope_base: Option<f32>,
    /// The type in which the position embedding is computed.
    pub rope: Option<Dtype>,
}

/// Returns the hints for a file of this `layout`, and warnings about facts that the text leaves out. `config` returns
/// the text of `config.json`, if there is one.
pub(super) fn gather(
    layout: &Layout,
    metadata: &BTreeMap<String, String>,
    config: impl FnOnce() -> Result<Option<String>, Problem>,
) -> Result<(Hints, Vec<String>), Problem> {
    match layout {
        Layout::Meddino => {
            let text = metadata.get(CONFIG_KEY).map_or("", String::as_str);
            let json = serde_json::from_str(text).map_err(|e| Problem::from(e).within(format_args!("its metadata {CONFIG_KEY} is damaged")))?;
            let config: Meddino = parsed(json).map_err(|problem| format!("its metadata {CONFIG_KEY} {problem}"))?;
            Ok((config.hints(), Vec::new()))
        }
        Layout::HuggingFace => match config()? {
            Some(text) => {
                let json = serde_json::from_str(&text).map_err(|e| Problem::from(e).within("config.json beside it is damaged"))?;
                let hints = parsed(json).and_then(HuggingFace::hints);
                Ok((hints.map_err(|problem| format!("its config.json {problem}"))?, Vec::new()))
            }
            None => Ok((
                Hints::default(),
                vec!["no config.json beside it: heads and epsilon are taken as in every published DINOv3; put its config.json in the same folder".into()],
            )),
        },
        Layout::NnUnet { trainer: Some(trainer) } => Ok((Hints::default(), said_of(trainer))),
        Layout::NnUnet { trainer: None } => Ok((Hints::default(), vec!["no trainer_name in it: taken for a MedDINOv3 trainer's".into()])),
        _ => Ok((Hints::default(), Vec::new())),
    }
}

/// Returns what to say of nnU-Net's `trainer`: nothing if it is a supported one.
fn said_of(trainer: &str) -> Vec<String> {
    let name = printable(trainer);
    match refuse::known_trainer(trainer) {
        Some(known) if known == trainer => Vec::new(),
        Some(parent) => vec![format!("was trained by {name}; its weights are taken as those of {parent}'s network")],
        None => vec![format!(
            "was trained by {name}, which is no known trainer; its weights have the names of MedDINOv3's network and are taken for one: compare its \
             labels with nnU-Net's once"
        )],
    }
}

/// The keys of a Hugging Face `config.json` that decide something. Other keys are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct HuggingFace {
    model_type: Option<Value>,
    hidden_act: Option<Value>,
    use_gated_mlp: Option<Value>,
    hidden_size: Option<Count>,
    num_hidden_layers: Option<Count>,
    num_attention_heads: Option<Count>,
    intermediate_size: Option<Count>,
    num_register_tokens: Option<Count>,
    patch_size: Option<Count>,
    layer_norm_eps: Option<Positive>,
    rope_theta: Option<Positive>,
    rope_parameters: Option<RopeParameters>,
}

/// The object in which newer versions of `transformers` write `rope_theta`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RopeParameters {
    rope_theta: Option<Positive>,
}

impl HuggingFace {
    fn hints(self) -> Result<Hints, String> {
        const REFUSED: &str = "only DINOv3ViT with a plain GELU MLP is supported";
        let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(printable);
        match (text(&self.model_type), text(&self.hidden_act)) {
            (Some(kind), _) if kind != "dinov3_vit" => return Err(format!("says model_type {kind}: {REFUSED}")),
            (_, Some(act)) if act != "gelu" => return Err(format!("says hidden_act {act}: {REFUSED}")),
            _ if self.use_gated_mlp == Some(Value::Bool(true)) => return Err(format!("says use_gated_mlp, a SwiGLU MLP: {REFUSED}")),
            _ => {}
        }
        Ok(Hints {
            embed_dim: count(self.hidden_size),
            depth: count(self.num_hidden_layers),
            num_heads: count(self.num_attention_heads),
            ffn_dim: count(self.intermediate_size),
            n_storage_tokens: count(self.num_register_tokens),
            patch_size: count(self.patch_size),
            norm_eps: positive(self.layer_norm_eps),
            rope_base: positive(self.rope_theta).or(positive(self.rope_parameters.unwrap_or_default().rope_theta)),
            ..Hints::default()
        })
    }
}

/// The keys of this crate's own configuration that become hints. Other keys are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meddino {
    embed_dim: Option<Count>,
    depth: Option<Count>,
    num_heads: Option<Count>,
    ffn_dim: Option<Count>,
    n_storage_tokens: Option<Count>,
    patch_size: Option<Count>,
    in_chans: Option<Count>,
    qkv_bias: Option<Value>,
    mask_token: Option<Value>,
    norm_eps: Option<Positive>,
    rope_base: Option<Positive>,
    rope: Option<Rope>,
}

impl Meddino {
    fn hints(self) -> Hints {
        Hints {
            embed_dim: count(self.embed_dim),
            depth: count(self.depth),
            num_heads: count(self.num_heads),
            ffn_dim: count(self.ffn_dim),
            n_storage_tokens: count(self.n_storage_tokens),
            patch_size: count(self.patch_size),
            in_chans: count(self.in_chans),
            qkv_bias: self.qkv_bias.as_ref().and_then(Value::as_bool),
            mask_token: self.mask_token.as_ref().and_then(Value::as_bool),
            norm_eps: positive(self.norm_eps),
            rope_base: positive(self.rope_base),
            rope: self.rope.map(|Rope(dtype)| dtype),
        }
    }
}

/// Deserialises the object in `json`; anything but an object gives the defaults. The error for an invalid value names
/// its key.
fn parsed<T: DeserializeOwned + Default>(json: Value) -> Result<T, String> {
    if !json.is_object() {
        return Ok(T::default());
    }
    serde_path_to_error::deserialize(json).map_err(|e| format!("says {} {}", e.path(), e.inner()))
}

/// A whole number, or a pair of equal whole numbers, as `patch_size` may be.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
struct Count(usize);

impl TryFrom<Value> for Count {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let number = match &value {
            Value::Array(pair) if pair.len() == 2 && pair[0] == pair[1] => &pair[0],
            value => value,
        };
        let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
        number.map(Self).ok_or_else(|| format!("{}; expected a whole number", printable(&value.to_string())))
    }
}

/// A finite number above zero.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
struct Positive(f32);

impl TryFrom<Value> for Positive {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let number = value.as_f64().map(|v| v as f32).filter(|v| v.is_finite() && *v > 0.0);
        number.map(Self).ok_or_else(|| format!("{}; expected a number above 0", printable(&value.to_string())))
    }
}

/// The type in which the position embedding is computed.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
struct Rope(Dtype);

impl TryFrom<Value> for Rope {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value.as_str() {
            Some("bf16") => Ok(Self(Dtype::Bf16)),
            Some("f32") => Ok(Self(Dtype::F32)),
            _ => Err(format!("{}; expected \"bf16\" or \"f32\"", printable(&value.to_string()))),
        }
    }
}

fn count(value: Option<Count>) -> Option<usize> {
    value.map(|Count(n)| n)
}

fn positive(value: Option<Positive>) -> Option<f32> {
    value.map(|Positive(v)| v)
}
