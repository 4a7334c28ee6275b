//! A loaded model, which processes images batch by batch.

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

/// A model and its backend.
#[derive(Clone, Debug, Default)]
pub struct ModelChoice {
    /// A checkpoint file, or `seeded:N`; none for the released checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Arithmetic of the position embedding; none for the checkpoint's own.
    pub rope: Option<RopePrecision>,
    /// The backend.
    pub backend: Choice,
    /// The backend's precision and kernels.
    pub tuning: Tuning,
}

impl ModelChoice {
    /// Opens the model without loading its weights. `observer` receives the checkpoint's warnings and a download's
    /// progress.
    ///
    /// # Errors
    /// If the checkpoint cannot be downloaded, read or understood.
    pub fn open(&self, observer: &dyn Observer) -> Result<OpenModel> {
        let checkpoint = weights::or_released(self.checkpoint.as_deref(), observer)?;
        let model = open_model(&checkpoint, self.rope, observer)?;
        Ok(OpenModel { checkpoint, model, backend: self.backend.clone(), tuning: self.tuning })
    }
}

/// A model whose weights are not loaded yet, so that a job can first check its input against the model.
pub struct OpenModel {
    checkpoint: PathBuf,
    model: Model,
    backend: Choice,
    tuning: Tuning,
}

impl OpenModel {
    /// Wraps a model that the caller has opened. Metadata name it `checkpoint`.
    pub fn new(checkpoint: impl Into<PathBuf>, model: Model, backend: Choice, tuning: Tuning) -> Self {
        Self { checkpoint: checkpoint.into(), model, backend, tuning }
    }

    /// Returns the checkpoint's path, or `seeded:N`.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Loads the weights onto the backend. `observer` receives the backend's warnings.
    ///
    /// # Errors
    /// If a tensor cannot be read, the backend is not available, or the weights do not fit into its memory.
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

/// Opens the model in the file `checkpoint`, or `seeded:N`, without loading its weights.
///
/// # Errors
/// If the checkpoint cannot be read or understood.
pub fn model_of(checkpoint: &Path) -> Result<Model> {
    ModelSource::parse(checkpoint)?.open()
}

/// Opens a model as [`model_of`] does. `rope` replaces the arithmetic of the position embedding. `observer` receives
/// the checkpoint's warnings.
///
/// # Errors
/// As [`model_of`].
pub fn open_model(checkpoint: &Path, rope: Option<RopePrecision>, observer: &dyn Observer) -> Result<Model> {
    let mut model = model_of(checkpoint)?;
    model.warnings().iter().for_each(|warning| observer.warn(warning));
    rope.into_iter().for_each(|rope| model.set_rope(rope));
    Ok(model)
}

/// A model with its weights on a backend, and the identity of the weights.
pub struct Engine {
    checkpoint: PathBuf,
    checkpoint_sha256: Option<String>,
    model: Model,
    backbone: Backbone,
}

impl Engine {
    /// Returns the path of the weights, or `seeded:N`.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// Returns the identity of the weights: their SHA-256, or the name of seeded weights.
    pub fn checkpoint_id(&self) -> String {
        self.checkpoint_sha256.clone().unwrap_or_else(|| name_text(&self.checkpoint))
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the model on its backend.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Submits a batch of images, [`Backbone::submit`], unless `observer` cancels. The CPU asks before each block of
    /// the model.
    ///
    /// # Errors
    /// As [`Backbone::features`]; [`crate::Error::Cancelled`] if `observer` cancels.
    pub fn submit(&self, images: &Tensor, mask: Option<&[bool]>, request: &Request, observer: &dyn Observer) -> Result<Pending> {
        self.backbone.submit_while(images, mask, request, &|| check(observer))
    }

    /// Computes the features of `slices` of `input` in batches of `batch` slices, and passes each batch and its images
    /// to `take`.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails, [`crate::Error::Cancelled`] if `observer` cancels, and the
    /// errors of `take`.
    pub fn stream(
        &self,
        input: &mut Input,
        slices: &[usize],
        batch: usize,
        request: &Request,
        observer: &dyn Observer,
        mut take: impl FnMut(Features, Tensor) -> Result<()> + Send,
    ) -> Result<()> {
        let submit = |images: &Tensor| self.submit(images, None, request, observer);
        Self::pipe(input, slices, batch, observer, submit, |pending: Pending, images| take(pending.wait()?, images))
    }

    /// Works as [`Engine::stream`], but `submit` submits each batch and `take` waits for it.
    ///
    /// # Errors
    /// As [`Engine::stream`].
    pub fn pipe<P: Send>(
        input: &mut Input,
        slices: &[usize],
        batch: usize,
        observer: &dyn Observer,
        mut submit: impl FnMut(&Tensor) -> Result<P>,
        mut take: impl FnMut(P, Tensor) -> Result<()> + Send,
    ) -> Result<()> {
        let mut batches = slices.chunks(batch);
        pipeline::run(
            || batches.next().map(|indices| input.batch(indices.iter().copied())),
            |images| {
                check(observer)?;
                Ok((submit(&images)?, images))
            },
            // The GPU computes the next batch while this stage waits for one.
            |(pending, images)| {
                check(observer)?;
                take(pending, images)
            },
        )
    }

    /// Returns the provenance of the features of `slices` of `input`, for metadata.
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
