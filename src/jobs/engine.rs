//! A model that is loaded, and images through it, batch by batch.

use std::path::{Path, PathBuf};

use super::input::Input;
use super::memory;
use super::observer::{Observer, check};
use super::pipeline;
use super::text::name_text;
use super::weights;
use crate::backbone::{Backbone, Choice, Pending, Tuning};
use crate::error::Result;
use crate::output::Provenance;
use crate::tensor::Tensor;
use crate::vit::config::RopePrecision;
use crate::vit::features::{Features, Request};
use crate::vit::model::Model;
use crate::vit::source::ModelSource;

/// Which model runs, and on what.
#[derive(Clone, Debug, Default)]
pub struct ModelChoice {
    /// A checkpoint file, or `seeded:N`; none for the released checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The arithmetic of the position embedding in place of the checkpoint's own.
    pub rope: Option<RopePrecision>,
    /// What computes.
    pub backend: Choice,
    /// How it computes.
    pub tuning: Tuning,
}

impl ModelChoice {
    /// Opens the model without its weights. `observer` hears what is to be said of the checkpoint, and of a download.
    ///
    /// # Errors
    /// If the checkpoint cannot be had or understood.
    pub fn open(&self, observer: &dyn Observer) -> Result<OpenModel> {
        let checkpoint = weights::or_released(self.checkpoint.as_deref(), observer)?;
        let model = open_model(&checkpoint, self.rope, observer)?;
        Ok(OpenModel { checkpoint, model, backend: self.backend.clone(), tuning: self.tuning })
    }
}

/// A model whose weights are not loaded yet, so that what does not fit the model can be refused before.
pub struct OpenModel {
    checkpoint: PathBuf,
    model: Model,
    backend: Choice,
    tuning: Tuning,
}

impl OpenModel {
    /// A model that a guest has opened by itself; metadata call it `checkpoint`.
    pub fn new(checkpoint: impl Into<PathBuf>, model: Model, backend: Choice, tuning: Tuning) -> Self {
        Self { checkpoint: checkpoint.into(), model, backend, tuning }
    }

    /// The file, or `seeded:N`.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Loads the weights onto the backend. `observer` hears what is to be said of the backend.
    ///
    /// # Errors
    /// If a tensor cannot be read, the backend cannot be had, or the weights do not fit there.
    pub fn load(self, observer: &dyn Observer) -> Result<Engine> {
        let Self { checkpoint, model, backend, tuning } = self;
        if matches!(backend, Choice::Cpu) {
            memory::weights(model.parameters())?;
        }
        let backbone = Backbone::tuned(&model, backend, tuning)?;
        backbone.warnings().iter().for_each(|warning| observer.warn(warning));
        let checkpoint_sha256 = model.checkpoint().sha256()?;
        Ok(Engine { checkpoint, checkpoint_sha256, model, backbone })
    }
}

/// The model in the file `checkpoint`, or `seeded:N`, without its weights.
///
/// # Errors
/// If the checkpoint cannot be read or understood.
pub fn model_of(checkpoint: &Path) -> Result<Model> {
    ModelSource::parse(checkpoint)?.open()
}

/// As [`model_of`], with another arithmetic of the position embedding if `rope` says so. `observer` hears what is to be said of the checkpoint.
///
/// # Errors
/// As [`model_of`].
pub fn open_model(checkpoint: &Path, rope: Option<RopePrecision>, observer: &dyn Observer) -> Result<Model> {
    let mut model = model_of(checkpoint)?;
    model.warnings().iter().for_each(|warning| observer.warn(warning));
    rope.into_iter().for_each(|rope| model.set_rope(rope));
    Ok(model)
}

/// A model with its weights on a backend, and what the weights are known by.
pub struct Engine {
    checkpoint: PathBuf,
    checkpoint_sha256: Option<String>,
    model: Model,
    backbone: Backbone,
}

impl Engine {
    /// The file that the weights are from, or `seeded:N`.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// What the weights are known by: a hash, or the name of seeded weights.
    pub fn checkpoint_id(&self) -> String {
        self.checkpoint_sha256.clone().unwrap_or_else(|| name_text(&self.checkpoint))
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model on its backend.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Hands the features of `slices` of `input` to `take`, `batch` at a time, each with the images that they are of.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails, [`crate::Error::Cancelled`] if `observer` cancels, and what `take` returns.
    pub fn stream(
        &self,
        input: &mut Input,
        slices: &[usize],
        batch: usize,
        request: &Request,
        observer: &dyn Observer,
        mut take: impl FnMut(Features, Tensor) -> Result<()> + Send,
    ) -> Result<()> {
        let submit = |images: &Tensor| self.backbone.submit(images, None, request);
        Self::pipe(input, slices, batch, observer, submit, |pending, images| take(pending.wait()?, images))
    }

    /// As [`Engine::stream`] with batches that are submitted, and waited for, in the caller's way.
    ///
    /// # Errors
    /// As [`Engine::stream`].
    pub fn pipe(
        input: &mut Input,
        slices: &[usize],
        batch: usize,
        observer: &dyn Observer,
        mut submit: impl FnMut(&Tensor) -> Result<Pending>,
        mut take: impl FnMut(Pending, Tensor) -> Result<()> + Send,
    ) -> Result<()> {
        let mut batches = slices.chunks(batch);
        pipeline::run(
            || batches.next().map(|indices| input.batch(indices.iter().copied())),
            |images| {
                check(observer)?;
                Ok((submit(&images)?, images))
            },
            // While one batch is waited for here, a GPU has the next.
            |(pending, images)| {
                check(observer)?;
                take(pending, images)
            },
        )
    }

    /// Where the features of `slices` of `input` come from.
    ///
    /// # Errors
    /// If the input cannot be read, or is too small for a patch.
    pub fn provenance(&self, input: &mut Input, slices: &[usize]) -> Result<Provenance> {
        let config = self.model.config().clone();
        let [_, _, height, width] = input.shape();
        Ok(Provenance {
            input_sha256: input.sha256()?,
            input: input.name(),
            about: input.about().to_vec(),
            slices: slices.to_vec(),
            place: input.place(slices, config.patch_size),
            image: (height, width),
            grid: config.grid(height, width)?,
            preprocessing: input.preprocessing(),
            config,
            checkpoint: name_text(&self.checkpoint),
            checkpoint_sha256: self.checkpoint_sha256.clone(),
            backend: self.backbone.device(),
        })
    }
}
