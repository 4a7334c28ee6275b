//! What turns one input after the other into a file of features: a model that is loaded once, and all that is set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meddino::archive::{Dtype, sha256};
use meddino::backbone::{Choice, Tuning};
use meddino::output::{Contents, FeatureFile, Format, Output};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::{Features, Request};
use meddino::vit::model::Model;
use meddino::{Error, Result};

use super::cases::Case;
use super::input::{Input, View};
use super::memory::{self, Bytes};
use super::profile::Profiling;
use super::progress::Progress;
use super::runner::{Runner, open_model};
use super::say::{Failure, Say, warn};
use super::slices::Slices;
use super::text::text;
use super::{interrupt, weights};

/// Everything that decides what is computed, but for the input and where it goes.
#[derive(Debug)]
pub struct Recipe {
    /// None: the released one.
    pub checkpoint: Option<PathBuf>,
    pub view: View,
    pub slices: Slices,
    pub outputs: Vec<Output>,
    pub format: Format,
    pub dtype: Dtype,
    pub backend: Choice,
    pub tuning: Tuning,
    pub rope: Option<RopePrecision>,
    /// None: by the memory that may be taken.
    pub batch: Option<usize>,
    pub max_memory: Option<Bytes>,
    pub profile: Profiling,
}

/// What came out of one case.
pub struct Report {
    /// [S, C, H, W] of the images that the model saw.
    pub images: [usize; 4],
    /// From the first image to the last feature written.
    pub took: Duration,
    /// Those of the last batch.
    pub last: Features,
}

impl Recipe {
    /// What of this decides the values in the outputs, hashed; the checkpoint is known by its own hash. Which device computes does not count.
    pub fn settings_sha256(&self) -> String {
        let Self { view, slices, outputs, format, dtype, tuning, rope, .. } = self;
        let precision = tuning.precision;
        sha256(format!("{} {view:?} {slices:?} {outputs:?} {format} {dtype} {precision} {rope:?}", env!("CARGO_PKG_VERSION")).as_bytes())
    }
}

/// A recipe with its model loaded.
pub struct Engine<'a> {
    recipe: &'a Recipe,
    runner: Runner,
    request: Request,
}

impl<'a> Engine<'a> {
    /// Loads the weights, once `check` has nothing against the model.
    pub fn open(recipe: &'a Recipe, say: Say, check: impl FnOnce(&Model) -> Result<()>) -> Result<Self> {
        let checkpoint = weights::or_released(recipe.checkpoint.as_deref(), say)?;
        let model = open_model(&checkpoint, recipe.rope)?;
        let request = Output::request(&recipe.outputs);
        request.check(model.config())?;
        check(&model)?;
        Ok(Self { recipe, runner: Runner::load(checkpoint, model, recipe.backend.clone(), recipe.tuning)?, request })
    }

    /// What it runs on.
    pub fn device(&self) -> String {
        self.runner.backbone.device()
    }

    /// What the weights are known by.
    pub fn checkpoint_id(&self) -> String {
        self.runner.checkpoint_sha256.clone().unwrap_or_else(|| text(&self.runner.checkpoint))
    }

    /// Runs the chosen slices of `input`, which `case` names, through the model, a batch at a time, into the file `target`.
    pub fn run(&self, case: &Case, mut input: Input, target: &Path, say: Say) -> Result<Report, Failure> {
        let [count, channels, height, width] = input.shape();
        let slices = self.recipe.slices.of(count)?;
        let (_, grid) = self.runner.model.config().check_image(&[1, channels, height, width])?;
        let batch = self.batch([channels, height, width], slices.len())?;
        let metadata = self.runner.provenance(case, &input, &slices)?.metadata();
        let contents = Contents { images: slices.len(), grid, outputs: self.recipe.outputs.clone(), dtype: self.recipe.dtype };

        let _watch = interrupt::Watch::new();
        let method = self.method(batch);
        let mut file = FeatureFile::create(target, self.recipe.format, self.runner.model.config(), &contents, metadata, &method)?;
        if let Some(other) = file.other_method() {
            let (then, now) = (parts_without(other, &method), parts_without(&method, other));
            say.note(format_args!(
                "{}: an unfinished file of an earlier run is begun anew, for its values would differ in their last bits: it was computed with {then}, now it is {now}",
                target.display()
            ));
        }
        if file.written() > 0 {
            say.note(format_args!(
                "{}: {} of {} slices are there from a run that was cut off",
                target.display(),
                file.written(),
                slices.len()
            ));
        }
        // Batches begin where those of a run that is not cut off do. The last one is done in any case, so that there is something to report.
        file.rewind(file.written().min(slices.len() - 1) / batch * batch);
        let mut progress = Progress::new(file.written(), slices.len(), say);
        let mut last = None;
        let left = &slices[file.written()..];
        let done = self.runner.stream(&mut input, left, batch, &self.request, |features, images| {
            file.push(&features)?;
            progress.step(images.shape()[0]);
            last = Some((features, images));
            Ok(())
        });
        if let Err(failure) = done {
            // A device that was lost says nothing against what it did before.
            if matches!(failure, Failure::Error(Error::Gpu { .. })) && file.written() > 0 {
                warn(format_args!("{} of {} slices are kept: the same command goes on from there", file.written(), slices.len()));
                file.keep();
            }
            return Err(failure);
        }
        file.finish()?;
        let took = progress.elapsed();
        let (last, images) = last.expect("at least one image was left to do");
        self.recipe.profile.run(&self.runner, &images, &self.request, say)?;
        Ok(Report { images: [slices.len(), channels, height, width], took, last })
    }

    /// By what features are computed `batch` images at a time, as far as it decides their last bits.
    fn method(&self, batch: usize) -> String {
        let batch = if self.runner.backbone.threads().is_some() { String::new() } else { format!("; batch {batch}") };
        format!("program {}; {}{batch}", env!("CARGO_PKG_VERSION"), self.runner.backbone.method())
    }

    fn batch(&self, image: [usize; 3], count: usize) -> Result<usize> {
        match self.recipe.batch {
            Some(batch) => Ok(batch),
            None => memory::batch(&self.runner.model, &self.runner.backbone, image, count, &self.request, self.recipe.max_memory),
        }
    }
}

/// The parts of `method` that `other` lacks.
fn parts_without(method: &str, other: &str) -> String {
    let lacking = |part: &&str| !other.split("; ").any(|known| known == *part);
    method.split("; ").filter(lacking).collect::<Vec<_>>().join(", ")
}
