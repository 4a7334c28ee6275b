//! What someone needs to know to interpret, repeat or compare features: the metadata of every output.

use std::collections::BTreeMap;

use serde_json::json;

use crate::ct::Window;
use crate::vit::config::{Config, Grid};

/// How the image came to be what the model saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Preprocessing {
    /// HU were normalised by this window.
    Window(Window),
    /// The input was normalised already.
    Done,
}

/// Where features come from.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The input as the user named it.
    pub input: String,
    /// Height and width of the image that the model was given, in pixels.
    pub image: (usize, usize),
    /// The patches that it saw of it.
    pub grid: Grid,
    /// From the input's values to the image's.
    pub preprocessing: Preprocessing,
    /// The model's sizes and precisions.
    pub config: Config,
    /// The checkpoint as the user named it, or `seeded:N`.
    pub checkpoint: String,
    /// SHA-256 of the checkpoint file, in hexadecimal; `None` for seeded weights.
    pub checkpoint_sha256: Option<String>,
    /// What the features were computed on.
    pub backend: String,
}

impl Provenance {
    /// Names and texts, as `.safetensors` metadata holds them; what is not one word or number is JSON.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let config = &self.config;
        let preprocessing = match &self.preprocessing {
            Preprocessing::Window(w) => {
                json!({"clamp_hu": [w.lo, w.hi], "subtract": w.mean, "divide": w.std, "then_resize": "bilinear, antialiased"})
            }
            Preprocessing::Done => json!({"normalised": "by whoever made the input", "then_resize": "bilinear, antialiased"}),
        };
        let entries = [
            ("meddino", env!("CARGO_PKG_VERSION").to_string()),
            ("input", self.input.clone()),
            ("image", json!([self.image.0, self.image.1]).to_string()),
            ("grid", json!([self.grid.rows, self.grid.cols]).to_string()),
            ("patch_size", config.patch_size.to_string()),
            ("preprocessing", preprocessing.to_string()),
            ("rope", config.rope.name().to_string()),
            ("norm_eps", config.norm_eps.to_string()),
            ("checkpoint", self.checkpoint.clone()),
            ("backend", self.backend.clone()),
        ];
        let hash = self.checkpoint_sha256.clone().map(|hash| ("checkpoint_sha256", hash));
        entries.into_iter().chain(hash).map(|(name, text)| (name.to_string(), text)).collect()
    }
}
