//! A model on the GPU or the CPU.

use js_sys::{Function, Promise};
use meddino::Error;
use meddino::backbone::{Backbone, Choice};
use meddino::gpu::Context;
use meddino::output::Provenance;
use meddino::vit::features::Request;
use meddino::vit::weights::Weights as Tree;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

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
    /// `gpu` or `cpu`
    backend: &'static str,
    #[serde(rename = "patchSize")]
    patch_size: usize,
    device: String,
    tier: Option<String>,
    precision: String,
    #[serde(rename = "weightBytes")]
    weight_bytes: u64,
    #[serde(rename = "maxBinding")]
    max_binding: Option<u64>,
    abilities: Option<String>,
    warnings: Vec<String>,
}

/// A model that is ready to compute.
#[wasm_bindgen]
pub struct Engine {
    backbone: Backbone,
    /// The GPU, if the model is on one.
    context: Option<Context>,
    about: About,
    /// What identifies the checkpoint; none for untrained weights.
    sha256: Option<String>,
}

impl Engine {
    /// Takes a model that is on the GPU of `context`, or on the CPU. `weights` is what messages call its checkpoint,
    /// which has `warnings`.
    pub(crate) fn new(backbone: Backbone, context: Option<Context>, weights: String, warnings: &[String]) -> Result<Self> {
        let (config, tuning) = (backbone.config(), backbone.tuning());
        let side = config.patch_size;
        let parameters = Tree::specs(config).leaves().iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        let planned = backbone.planned_bytes(&[1, 1, side, side], 0, &Request::default()).map_err(thrown)?;
        let about = About {
            weights,
            parameters,
            backend: if context.is_some() { "gpu" } else { "cpu" },
            width: config.embed_dim,
            depth: config.depth,
            patch_size: side,
            device: backbone.device(),
            tier: tuning.tier.map(|tier| tier.to_string()),
            precision: tuning.precision.to_string(),
            weight_bytes: planned.unwrap_or((parameters * size_of::<f32>()) as u64),
            max_binding: context.as_ref().map(|context| context.limits().max_binding),
            abilities: context.as_ref().map(|context| context.abilities().to_string()),
            warnings: warnings.iter().chain(backbone.warnings()).cloned().collect(),
        };
        Ok(Self { backbone, context, about, sha256: None })
    }

    fn of(Weights { model, sha256 }: Weights, backbone: Backbone, context: Option<Context>) -> Result<Self> {
        let name = model.checkpoint().source_name().to_owned();
        Ok(Self { sha256, ..Self::new(backbone, context, name, model.warnings())? })
    }
}

#[wasm_bindgen]
impl Engine {
    /// Opens the browser's GPU and loads the weights onto it. `precision` is `f32` (the default) or `f16`, and `tier`
    /// one of the tiers of kernels, else the best that the device runs. `rope` is the precision of the position
    /// embedding, `f32` or `bf16`, which otherwise follows the kind of checkpoint.
    pub async fn load(weights: Weights, precision: Option<String>, tier: Option<String>, rope: Option<String>) -> Result<Engine> {
        let weights = weights.with_rope(rope)?;
        let (backbone, context) = device::on(precision, tier, async |context| Backbone::on_async(&weights.model, context).await).await?;
        Self::of(weights, backbone, Some(context))
    }

    /// Packs the weights for the CPU. The options are those of [`Engine::load`]; the CPU has f32 alone, and no tiers.
    #[wasm_bindgen(js_name = onCpu)]
    pub async fn on_cpu(weights: Weights, precision: Option<String>, tier: Option<String>, rope: Option<String>) -> Result<Engine> {
        let weights = weights.with_rope(rope)?;
        let tuning = options::tuning(precision.as_deref(), tier.as_deref()).map_err(thrown)?;
        let backbone = Backbone::tuned_async(&weights.model, Choice::Cpu, tuning).await.map_err(thrown)?;
        Self::of(weights, backbone, None)
    }

    /// Computes one small image. A GPU that refuses a kernel of the model, or is lost at its first pass, is an error here.
    #[wasm_bindgen(js_name = tryOut)]
    pub async fn try_out(&self) -> Result<()> {
        self.backbone.try_out_async().await.map_err(device::failed)
    }

    /// Returns what the model and its device are.
    pub fn about(&self) -> Result<JsValue> {
        object(&self.about)
    }

    /// Returns the bytes of the GPU's memory that the model and a pass over an image of `height` x `width` take; none on
    /// the CPU.
    #[wasm_bindgen(js_name = plannedBytes)]
    pub fn planned_bytes(&self, height: usize, width: usize) -> Result<Option<f64>> {
        let planned = self.backbone.planned_bytes(&[1, 1, height, width], 1, &Request::default());
        Ok(planned.map_err(thrown)?.map(|bytes| bytes as f64))
    }

    /// Tells the SHA-256 that identifies the checkpoint, which features then state.
    pub fn identify(&mut self, sha256: String) {
        self.sha256 = Some(sha256);
    }

    /// Computes the features of an image. `layers` are blocks whose tokens are wanted too. The pass waits for the promise
    /// that `pause` returns, on the CPU before each block, on a GPU before it begins; if it is of `false`, the pass ends.
    pub async fn features(&self, image: Image, layers: Vec<usize>, pause: Option<Function>) -> Result<Features> {
        let request = Request { layers, ..Request::default() };
        let tokens = self.backbone.features_pausing_async(&image.tensor, None, &request, || goes_on(pause.as_ref()));
        let tokens = tokens.await.map_err(device::failed)?;
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
        if let Some(context) = &self.context {
            context.device().destroy();
        }
    }
}

/// Waits for the promise that `pause` returns, if there is a `pause`.
async fn goes_on(pause: Option<&Function>) -> Result<(), Error> {
    let Some(pause) = pause else { return Ok(()) };
    let promise = pause.call0(&JsValue::NULL).and_then(JsCast::dyn_into::<Promise>);
    let answer = async { JsFuture::from(promise?).await }.await;
    match answer {
        Ok(goes_on) if goes_on.is_truthy() => Ok(()),
        Ok(_) => Err(Error::Cancelled),
        Err(error) => Err(Error::option("pause", format!("expected a function that returns a promise, and it failed: {error:?}"))),
    }
}
