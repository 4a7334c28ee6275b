//! A model that is loaded, and images through it, batch by batch.

use std::path::{Path, PathBuf};

use meddino::backbone::{Backbone, Choice, Pending, Tuning};
use meddino::output::Provenance;
use meddino::vit::config::RopePrecision;
use meddino::vit::features::{Features, Request};
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;
use meddino::{Result, Tensor};

use super::cases::Case;
use super::input::Input;
use super::say::{Failure, warn};
use super::text::text;
use super::{interrupt, memory, pipeline};

/// A model with its weights on a backend, and what the weights are known by.
pub struct Runner {
    /// The file, or `seeded:N`.
    pub checkpoint: PathBuf,
    pub checkpoint_sha256: Option<String>,
    pub model: Model,
    pub backbone: Backbone,
}

impl Runner {
    /// Loads the weights of `model`, which is `checkpoint`'s.
    pub fn load(checkpoint: PathBuf, model: Model, choice: Choice, tuning: Tuning) -> Result<Self> {
        let backbone = open_backbone(&model, choice, tuning)?;
        let checkpoint_sha256 = model.checkpoint().sha256()?;
        Ok(Self { checkpoint, checkpoint_sha256, model, backbone })
    }

    /// Hands the features of `slices` of `input` to `take`, `batch` at a time, each with the images that they are of. Ctrl-C ends it.
    pub fn stream(
        &self,
        input: &mut Input,
        slices: &[usize],
        batch: usize,
        request: &Request,
        mut take: impl FnMut(Features, Tensor) -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        let submit = |images: &Tensor| self.backbone.submit(images, None, request);
        Self::pipe(input, slices, batch, submit, |pending, images| take(pending.wait()?, images))
    }

    /// The same with batches that are submitted, and waited for, in the caller's way.
    pub fn pipe(
        input: &mut Input,
        slices: &[usize],
        batch: usize,
        mut submit: impl FnMut(&Tensor) -> Result<Pending>,
        mut take: impl FnMut(Pending, Tensor) -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        let mut batches = slices.chunks(batch);
        pipeline::run(
            || batches.next().map(|indices| input.batch(indices.iter().copied()).map_err(Failure::from)),
            |images| {
                interrupt::check()?;
                Ok((submit(&images)?, images))
            },
            // While one batch is waited for here, a GPU has the next.
            |(pending, images)| {
                interrupt::check()?;
                take(pending, images)
            },
        )
    }

    /// Where the features of `slices` of `input` come from.
    pub fn provenance(&self, case: &Case, input: &Input, slices: &[usize]) -> Result<Provenance> {
        let config = self.model.config().clone();
        let [_, _, height, width] = input.shape();
        Ok(Provenance {
            input: case.text(),
            input_sha256: case.sha256()?,
            about: input.about().to_vec(),
            slices: slices.to_vec(),
            place: input.place(slices, config.patch_size),
            image: (height, width),
            grid: config.grid(height, width)?,
            preprocessing: input.preprocessing(),
            config,
            checkpoint: text(&self.checkpoint),
            checkpoint_sha256: self.checkpoint_sha256.clone(),
            backend: self.backbone.device(),
        })
    }
}

/// The model in the file `checkpoint`, or `seeded:N`.
pub fn model_of(checkpoint: &Path) -> Result<Model> {
    ModelSource::parse(checkpoint)?.open()
}

/// The same, with what there is to say about it said, and another RoPE precision if one is asked for.
pub fn open_model(checkpoint: &Path, rope: Option<RopePrecision>) -> Result<Model> {
    let mut model = model_of(checkpoint)?;
    model.warnings().iter().for_each(warn);
    rope.into_iter().for_each(|rope| model.set_rope(rope));
    Ok(model)
}

/// The model on its backend, with what there is to say about that said.
pub fn open_backbone(model: &Model, choice: Choice, tuning: Tuning) -> Result<Backbone> {
    if matches!(choice, Choice::Cpu) {
        memory::weights(model.parameters())?;
    }
    let backbone = Backbone::tuned(model, choice, tuning)?;
    backbone.warnings().iter().for_each(warn);
    Ok(backbone)
}
