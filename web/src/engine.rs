//! A model on the GPU.

use meddino::backbone::Backbone;
use meddino::gpu::Context;
use meddino::output::Provenance;
use meddino::vit::features::Request;
use meddino::vit::weights::Weights as Tree;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::device;
use crate::error::{Result, object, thrown};
use crate::features::Features;
use crate::image::Image;
use crate::options;
use crate::weights::Weights;

/// What JavaScript is told of a model on its device.
#[derive(serde::Serialize)]
struct About {
    weights: String,
    parameters: usize,
    width: usize,
    depth: usize,
    #[serde(rename = "patchSize")]
    patch_size: usize,
    device: String,
    tier: Option<String>,
    precision: String,
    #[serde(rename = "weightBytes")]
    weight_bytes: u64,
    #[serde(rename = "maxBinding")]
    max_binding: u64,
    abilities: String,
    warnings: Vec<String>,
}

/// A model whose weights are on the GPU.
#[wasm_bindgen]
pub struct Engine {
    backbone: Backbone,
    context: Context,
    about: About,
    /// What identifies the checkpoint; none for untrained weights.
    sha256: Option<String>,
}

impl Engine {
    /// Takes a model that is on the device of `context`. `weights` is what messages call its checkpoint, which has
    /// `warnings`.
    pub(crate) fn new(backbone: Backbone, context: Context, weights: String, warnings: &[String]) -> Result<Self> {
        let (config, tuning) = (backbone.config(), backbone.tuning());
        let side = config.patch_size;
        let planned = backbone.planned_bytes(&[1, 1, side, side], 0, &Request::default()).map_err(thrown)?;
        let about = About {
            weights,
            parameters: Tree::specs(config).leaves().iter().map(|spec| spec.shape.iter().product::<usize>()).sum(),
            width: config.embed_dim,
            depth: config.depth,
            patch_size: side,
            device: backbone.device(),
            tier: tuning.tier.map(|tier| tier.to_string()),
            precision: tuning.precision.to_string(),
            weight_bytes: planned.unwrap_or(0),
            max_binding: context.limits().max_binding,
            abilities: context.abilities().to_string(),
            warnings: warnings.iter().chain(backbone.warnings()).cloned().collect(),
        };
        Ok(Self { backbone, context, about, sha256: None })
    }
}

#[wasm_bindgen]
impl Engine {
    /// Opens the browser's GPU and loads the weights onto it. `precision` is `f32` (the default) or `f16`, and `tier`
    /// one of the tiers of kernels, else the best that the device runs. `rope` is the precision of the position
    /// embedding, `f32` or `bf16`, which otherwise follows the kind of checkpoint.
    pub async fn load(weights: Weights, precision: Option<String>, tier: Option<String>, rope: Option<String>) -> Result<Engine> {
        let mut model = weights.model;
        if let Some(rope) = rope {
            model.set_rope(options::rope(&rope)?);
        }
        let (backbone, context) = device::on(precision, tier, async |context| Backbone::on_async(&model, context).await).await?;
        Self::new(backbone, context, model.checkpoint().source_name().to_owned(), model.warnings())
    }

    /// Returns what the model and its device are.
    pub fn about(&self) -> Result<JsValue> {
        object(&self.about)
    }

    /// Returns the bytes of the device's memory that the model and a pass over an image of `height` x `width` take.
    #[wasm_bindgen(js_name = plannedBytes)]
    pub fn planned_bytes(&self, height: usize, width: usize) -> Result<f64> {
        let planned = self.backbone.planned_bytes(&[1, 1, height, width], 1, &Request::default());
        Ok(planned.map_err(thrown)?.unwrap_or(0) as f64)
    }

    /// Tells the SHA-256 that identifies the checkpoint, which features then state.
    pub fn identify(&mut self, sha256: String) {
        self.sha256 = Some(sha256);
    }

    /// Computes the features of an image. `layers` are blocks whose tokens are wanted too.
    pub async fn features(&self, image: Image, layers: Vec<usize>) -> Result<Features> {
        let request = Request { layers, ..Request::default() };
        let tokens = self.backbone.features_async(&image.tensor, None, &request).await.map_err(device::failed)?;
        let origin = Provenance {
            checkpoint: self.about.weights.clone(),
            checkpoint_sha256: self.sha256.clone(),
            backend: self.about.device.clone(),
            ..image.origin(self.backbone.config(), tokens.grid)
        };
        Ok(Features::new(tokens, &origin, image.slice))
    }

    /// Takes the device away, as a driver does that fails. For tests of what follows.
    #[wasm_bindgen(js_name = loseDevice)]
    pub fn lose_device(&self) {
        self.context.device().destroy();
    }
}
