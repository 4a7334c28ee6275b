//! A model on a device of its own.

use meddino::backbone::{Backbone, Choice, Precision, Tuning};
use meddino::gpu::{Context, Selection};
use meddino::graph::Tier;
use meddino::maps::Mesh;
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;
use meddino::{Error, Tensor};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Result, object, thrown};
use crate::features::Features;
use crate::image::Image;
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
}

#[wasm_bindgen]
impl Engine {
    /// Opens the browser's GPU and loads the weights onto it. `precision` is `f32` (the default) or `f16`, and `tier`
    /// one of the tiers of kernels, else the best that the device runs. `rope` is the precision of the position
    /// embedding, `f32` or `bf16`, which otherwise follows the kind of checkpoint.
    pub async fn load(weights: Weights, precision: Option<String>, tier: Option<String>, rope: Option<String>) -> Result<Engine> {
        let mut model = weights.model;
        if let Some(rope) = rope {
            model.set_rope(self::rope(&rope).map_err(thrown)?);
        }
        let precision = precision.as_deref().map_or(Ok(Precision::F32), self::precision).map_err(thrown)?;
        let tier = tier.as_deref().map(self::tier).transpose().map_err(thrown)?;
        let opened = Choice::Gpu(Selection::Auto).context_async(Tuning { precision, tier }).await.map_err(thrown)?;
        let context = opened.ok_or_else(|| thrown(Error::option("backend", "the browser gives no GPU")))?;
        let backbone = Backbone::on_async(&model, &context).await.map_err(thrown)?;
        let tuning = backbone.tuning();
        let side = model.config().patch_size;
        let planned = backbone.planned_bytes(&[1, 1, side, side], 0, &Request::default()).map_err(thrown)?;
        let about = About {
            weights: model.checkpoint().source_name().to_owned(),
            parameters: model.parameters(),
            width: model.config().embed_dim,
            depth: model.config().depth,
            patch_size: side,
            device: backbone.device(),
            tier: tuning.tier.map(|tier| tier.to_string()),
            precision: tuning.precision.to_string(),
            weight_bytes: planned.unwrap_or(0),
            max_binding: context.limits().max_binding,
            abilities: context.abilities().to_string(),
            warnings: model.warnings().iter().chain(backbone.warnings()).cloned().collect(),
        };
        Ok(Self { backbone, context, about })
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

    /// Computes the features of an image. `layers` are blocks whose tokens are wanted too.
    pub async fn features(&self, image: Image, layers: Vec<usize>) -> Result<Features> {
        let request = Request { layers, ..Request::default() };
        let tokens = self.backbone.features_async(&image.tensor, None, &request).await.map_err(thrown)?;
        let mesh = Mesh::new(tokens.grid, self.about.patch_size, image.size(), image.slice);
        let patches = tokens.patches();
        let patches = Tensor::new([tokens.grid.patches(), patches.cols()], patches.into_data());
        Ok(Features::new(tokens, patches, mesh))
    }

    /// Takes the device away, as a driver does that fails. For tests of what follows.
    #[wasm_bindgen(js_name = loseDevice)]
    pub fn lose_device(&self) {
        self.context.device().destroy();
    }
}

fn precision(name: &str) -> Result<Precision, Error> {
    match name {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        _ => Err(Error::option("precision", format!("'{name}' is neither f32 nor f16"))),
    }
}

fn rope(name: &str) -> Result<RopePrecision, Error> {
    match name {
        "f32" => Ok(RopePrecision::F32),
        "bf16" => Ok(RopePrecision::Bf16),
        _ => Err(Error::option("rope", format!("'{name}' is neither f32 nor bf16"))),
    }
}

fn tier(name: &str) -> Result<Tier, Error> {
    let found = Tier::ALL.into_iter().find(|tier| tier.to_string() == name);
    let names = || Tier::ALL.map(|tier| tier.to_string()).join(", ");
    found.ok_or_else(|| Error::option("tier", format!("'{name}' is no tier of kernels; expected one of {}", names())))
}
