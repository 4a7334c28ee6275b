//! Features of scans: a recipe, and a job that processes one input after another, into files or into memory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::case::Case;
use super::engine::{Engine, ModelChoice, OpenModel};
use super::input::{Input, View};
use super::memory::{self, ByteSize};
use super::observer::{Cancel, Observer, UnderWay, check, warn};
use super::slices::Slices;
use crate::archive::{Dtype, sha256};
use crate::error::{Error, Result};
use crate::output::{Contents, FeatureFile, Format, Output, Targets};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::features::{Features, Request};

/// All settings of a feature job, except the input and the output.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The model and its backend.
    pub model: ModelChoice,
    /// The preprocessing from scans to images.
    pub view: View,
    /// The slices to process.
    pub slices: Slices,
    /// The tensors that a file holds.
    pub outputs: Vec<Output>,
    /// The file format.
    pub format: Format,
    /// The data type of the values in a file: f32 or f16.
    pub dtype: Dtype,
    /// Number of images in a batch; none for as many as the memory allows.
    pub batch: Option<usize>,
    /// The memory limit that sets the batch if `batch` is none.
    pub max_memory: Option<ByteSize>,
}

impl Recipe {
    /// Returns a recipe for the cls, storage and patch tokens of every slice in f32, the defaults of `meddino
    /// features`.
    pub fn new(model: ModelChoice, view: View) -> Self {
        Self {
            model,
            view,
            slices: Slices::All,
            outputs: vec![Output::Cls, Output::Storage, Output::Patch],
            format: Format::Safetensors,
            dtype: Dtype::F32,
            batch: None,
            max_memory: None,
        }
    }

    /// Returns the SHA-256 of the settings that decide a file's values. The device does not count, and neither does the
    /// checkpoint, which has its own hash.
    pub fn settings_sha256(&self) -> String {
        let Self { model, view, slices, outputs, format, dtype, .. } = self;
        let (precision, rope) = (model.tuning.precision, model.rope);
        sha256(format!("{} {view:?} {slices:?} {outputs:?} {format} {dtype} {precision} {rope:?}", env!("CARGO_PKG_VERSION")).as_bytes())
    }
}

/// The result of a job for one input.
#[derive(Debug)]
pub struct FeatureReport {
    /// Shape [S, C, H, W] of the images that the model saw.
    pub images: [usize; 4],
    /// Time from the first image until the last feature is written.
    pub took: Duration,
    /// The images of the last batch, [B, C, H, W].
    pub last_images: Tensor,
    /// The features of the last batch.
    pub last: Features,
}

/// A recipe with its loaded model, which processes one input after another.
///
/// ```
/// use meddino::backbone::Choice;
/// use meddino::ct::{Size, Volume};
/// use meddino::jobs::{FeatureJob, Input, ModelChoice, Recipe, View};
///
/// let model = ModelChoice { checkpoint: Some("seeded:0:tiny".into()), backend: Choice::Cpu, ..ModelChoice::default() };
/// let recipe = Recipe::new(model, View::demo(Size::Square(64)));
/// let mut scan = Input::from_volume(Volume::phantom(), recipe.view.clone())?;
/// let job = FeatureJob::open(recipe, Some(&scan), &())?;
/// let features = job.compute(&mut scan, &())?; // into memory
/// assert_eq!(features.cls().shape(), [1, 128]); // [S, C]
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("phantom.safetensors");
/// job.write(&mut scan, &path, &())?; // into a file
/// # Ok::<(), meddino::Error>(())
/// ```
pub struct FeatureJob {
    recipe: Recipe,
    engine: Arc<Engine>,
    request: Request,
}

impl FeatureJob {
    /// Loads the weights that `recipe` names. Before that, checks that the recipe and the `input` fit the model.
    ///
    /// # Errors
    /// If the weights cannot be loaded, the backend is not available, or the recipe or the input does not fit the
    /// model.
    pub fn open(recipe: Recipe, input: Option<&Input>, observer: &dyn Observer) -> Result<Self> {
        let model = recipe.model.open(observer)?;
        Self::with_model(recipe, model, input, observer)
    }

    /// Works as [`FeatureJob::open`], but with an open model instead of the model that the recipe names.
    ///
    /// # Errors
    /// As [`FeatureJob::open`].
    pub fn with_model(recipe: Recipe, model: OpenModel, input: Option<&Input>, observer: &dyn Observer) -> Result<Self> {
        let request = fitting_request(&recipe, model.model().config(), input)?;
        Ok(Self { engine: model.load(observer)?.into(), recipe, request })
    }

    /// Works as [`FeatureJob::open`], but with a loaded model instead of the model that the recipe names. Several jobs
    /// may share a model, also at the same time.
    ///
    /// # Errors
    /// If the recipe or the input does not fit the model.
    pub fn with_engine(recipe: Recipe, engine: Arc<Engine>, input: Option<&Input>) -> Result<Self> {
        let request = fitting_request(&recipe, engine.model().config(), input)?;
        Ok(Self { recipe, engine, request })
    }

    /// Returns the model on its backend.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the outputs that the job requests from the model.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Writes the features of the recipe's slices of `input` to the file `target`, batch by batch. Resumes the
    /// unfinished file of an interrupted run if its input, settings and method are the same; the result equals that of
    /// an uninterrupted run.
    ///
    /// Replaces an existing file; check with [`Targets`] first whether that is allowed.
    ///
    /// # Errors
    /// If the input cannot be read or does not fit the model, the file cannot be written, or the device fails.
    /// [`Error::Cancelled`] if `observer` cancels; its [`Cancel`] decides whether the unfinished file is kept.
    pub fn write(&self, input: &mut Input, target: &Path, observer: &dyn Observer) -> Result<FeatureReport> {
        let [count, channels, height, width] = input.shape();
        let slices = self.recipe.slices.of(count)?;
        let (_, grid) = self.engine.model().config().check_image(&[1, channels, height, width])?;
        let batch = self.batch([channels, height, width], slices.len())?;

        let _under_way = UnderWay::new(observer);
        let metadata = self.engine.provenance(input, &slices)?.metadata();
        check(observer)?;
        let contents = Contents { images: slices.len(), grid, outputs: self.recipe.outputs.clone(), dtype: self.recipe.dtype };
        let method = self.method(batch);
        let config = self.engine.model().config();
        let mut file = FeatureFile::create(target, self.recipe.format, config, &contents, metadata, &method)?;
        note_earlier_run(&file, target, &method, slices.len(), observer);
        // Start at a batch boundary, as an uninterrupted run would. At least one batch is computed, because the report
        // needs one.
        file.rewind(file.written().min(slices.len() - 1) / batch * batch);
        let started = Instant::now();
        observer.progress(file.written(), slices.len());
        let mut last = None;
        let left = &slices[file.written()..];
        let done = self.engine.stream(input, left, batch, &self.request, observer, |features, images| {
            file.push(&features)?;
            observer.progress(file.written(), slices.len());
            if let Some((features, _)) = last.replace((features, images)) {
                self.engine.backbone().reuse(features);
            }
            Ok(())
        });
        if let Err(error) = done {
            keep_unfinished(file, &error, slices.len(), observer);
            return Err(error);
        }
        file.finish()?;
        let took = started.elapsed();
        let (last, last_images) = last.expect("at least one image was left to do");
        Ok(FeatureReport { images: [slices.len(), channels, height, width], took, last_images, last })
    }

    /// Returns the features of the recipe's slices of `input` in memory: S images in the order of the slices.
    ///
    /// # Errors
    /// As [`FeatureJob::write`], except for errors of files.
    pub fn compute(&self, input: &mut Input, observer: &dyn Observer) -> Result<Features> {
        let mut features: Option<Features> = None;
        self.stream(input, observer, |batch| {
            match &mut features {
                Some(features) => append(features, batch),
                None => features = Some(batch),
            }
            Ok(())
        })?;
        Ok(features.expect("at least one slice"))
    }

    /// Passes the features of the recipe's slices of `input` to `take`, batch by batch, in the order of the slices.
    ///
    /// # Errors
    /// As [`FeatureJob::compute`], and the errors of `take`.
    pub fn stream(&self, input: &mut Input, observer: &dyn Observer, mut take: impl FnMut(Features) -> Result<()> + Send) -> Result<()> {
        let [count, channels, height, width] = input.shape();
        let slices = self.recipe.slices.of(count)?;
        self.engine.model().config().check_image(&[1, channels, height, width])?;
        let batch = self.batch([channels, height, width], slices.len())?;
        let _under_way = UnderWay::new(observer);
        let mut done = 0;
        observer.progress(done, slices.len());
        self.engine.stream(input, &slices, batch, &self.request, observer, |features, images| {
            take(features)?;
            done += images.shape()[0];
            observer.progress(done, slices.len());
            Ok(())
        })
    }

    /// Names everything that decides the last bits of features in batches of `batch` images.
    fn method(&self, batch: usize) -> String {
        let backbone = self.engine.backbone();
        let batch = if backbone.threads().is_some() { String::new() } else { format!("; batch {batch}") };
        format!("program {}; {}{batch}", env!("CARGO_PKG_VERSION"), backbone.method())
    }

    fn batch(&self, image: [usize; 3], count: usize) -> Result<usize> {
        match self.recipe.batch {
            Some(batch) => Ok(batch),
            None => memory::batch(self.engine.model(), self.engine.backbone(), image, count, &self.request, self.recipe.max_memory),
        }
    }
}

/// Writes the features of one scan to the file `output`. Every check that needs no weights comes before the weights are
/// loaded. `targets` holds the other files that the job reads and writes.
///
/// # Errors
/// As [`Input::open`], [`FeatureJob::open`] and [`FeatureJob::write`], and if the file may not be written.
pub fn write_features(
    recipe: &Recipe,
    case: &Case,
    output: &Path,
    targets: &mut Targets,
    observer: &dyn Observer,
) -> Result<(FeatureJob, FeatureReport)> {
    recipe.format.files(output).iter().try_for_each(|target| targets.writes(target))?;
    let mut input = Input::open(case, recipe.view.clone(), observer)?;
    recipe.slices.of(input.shape()[0])?;
    let job = FeatureJob::open(recipe.clone(), Some(&input), observer)?;
    let report = job.write(&mut input, output, observer)?;
    Ok((job, report))
}

/// Returns the outputs that a job requests from a model of `config`.
///
/// # Errors
/// If the recipe or the input does not fit the model.
fn fitting_request(recipe: &Recipe, config: &Config, input: Option<&Input>) -> Result<Request> {
    let request = Output::request(&recipe.outputs);
    request.check(config)?;
    if let Some(input) = input {
        let [_, channels, height, width] = input.shape();
        config.check_image(&[1, channels, height, width])?;
    }
    Ok(request)
}

/// Notes whether an unfinished file of an earlier run exists, and whether it can be resumed.
fn note_earlier_run(file: &FeatureFile, target: &Path, method: &str, count: usize, observer: &dyn Observer) {
    if let Some(other) = file.other_method() {
        let (before, now) = (parts_without(other, method), parts_without(method, other));
        observer.note(&format!(
            "{}: starting again instead of resuming an earlier run, because the last bits would differ: that run used {before}, this run uses {now}",
            target.display()
        ));
    }
    if file.written() > 0 {
        observer.note(&format!("{}: resuming an interrupted run that wrote {} of {count} slices", target.display(), file.written()));
    }
}

/// Keeps the unfinished `file` for a later run if the GPU failed, because the slices before the failure are correct, or
/// if the observer cancels with [`Cancel::Keep`]. Otherwise the file is removed.
fn keep_unfinished(file: FeatureFile, error: &Error, count: usize, observer: &dyn Observer) {
    match error {
        Error::Gpu { .. } if file.written() > 0 => {
            warn(observer, &format!("{} of {count} slices are kept; repeat the command to resume", file.written()));
            file.keep();
        }
        Error::Cancelled if observer.cancelled() == Some(Cancel::Keep) => file.keep(),
        _ => {}
    }
}

/// Returns the parts of `method` that `other` lacks.
fn parts_without(method: &str, other: &str) -> String {
    let lacking = |part: &&str| !other.split("; ").any(|candidate| candidate == *part);
    method.split("; ").filter(lacking).collect::<Vec<_>>().join(", ")
}

/// Appends the images of `batch` to those of `all`. Both come from the same request.
fn append(all: &mut Features, batch: Features) {
    let join = |all: &mut Tensor, batch: Tensor| {
        let mut shape = all.shape().to_vec();
        shape[0] += batch.shape()[0];
        let mut values = std::mem::replace(all, Tensor::empty()).into_data();
        values.extend(batch.into_data());
        *all = Tensor::new(shape, values);
    };
    join(&mut all.x_norm, batch.x_norm);
    all.x_prenorm.iter_mut().zip(batch.x_prenorm).for_each(|(all, batch)| join(all, batch));
    all.layers.iter_mut().zip(batch.layers).for_each(|((_, all), (_, batch))| join(all, batch));
    all.taps.iter_mut().zip(batch.taps).for_each(|((_, all), (_, batch))| join(all, batch));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ct::Size;

    /// A manifest identifies finished work by this hash. If the hash of equal settings changed, all work would be
    /// redone.
    #[test]
    fn the_hash_of_settings_does_not_change() {
        assert_eq!(env!("CARGO_PKG_VERSION"), "0.1.0", "a new version changes the hashes; update them here");
        let recipe = Recipe::new(ModelChoice::default(), View::demo(Size::Square(32)));
        assert_eq!(recipe.settings_sha256(), "673e17eab376b7c068c06d40dea23ee68bda04bba3d44db69a141916f4bf1e75");
        let other_slices = Recipe { slices: "1:5:2".parse().expect("slices"), ..recipe.clone() };
        assert_ne!(other_slices.settings_sha256(), recipe.settings_sha256());
        let other_device = Recipe {
            batch: Some(3),
            model: ModelChoice { backend: crate::backbone::Choice::Cpu, ..recipe.model.clone() },
            ..recipe.clone()
        };
        assert_eq!(other_device.settings_sha256(), recipe.settings_sha256(), "the device and the batch do not count");
    }
}
