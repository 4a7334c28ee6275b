//! Features of scans: a recipe, and a model that takes one input after another, into files or into memory.

use std::path::Path;
use std::time::{Duration, Instant};

use super::case::Case;
use super::engine::{Engine, ModelChoice, OpenModel};
use super::input::{Input, View};
use super::memory::{self, ByteSize};
use super::observer::{Cancel, Observer, UnderWay, check};
use super::slices::Slices;
use crate::archive::{Dtype, sha256};
use crate::error::{Error, Result};
use crate::output::{Contents, FeatureFile, Format, Output, Targets};
use crate::tensor::Tensor;
use crate::vit::features::{Features, Request};

/// Everything that decides which features are computed, but for the input and where they go.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Which model runs, and on what.
    pub model: ModelChoice,
    /// How a scan becomes images.
    pub view: View,
    /// Which slices are looked at.
    pub slices: Slices,
    /// Which tensors a file holds.
    pub outputs: Vec<Output>,
    /// The kind of file.
    pub format: Format,
    /// The type of the values in a file: f32 or f16.
    pub dtype: Dtype,
    /// How many images go through the model at once; none for as many as the memory allows.
    pub batch: Option<usize>,
    /// Memory that may be taken, if `batch` is none.
    pub max_memory: Option<ByteSize>,
}

impl Recipe {
    /// The cls, storage and patch tokens of every slice, in f32: what `meddino features` writes if no flag says otherwise.
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

    /// The SHA-256 of what of the recipe decides the values in a file. The checkpoint is known by its own hash, and which device computes does
    /// not count.
    pub fn settings_sha256(&self) -> String {
        let Self { model, view, slices, outputs, format, dtype, .. } = self;
        let (precision, rope) = (model.tuning.precision, model.rope);
        sha256(format!("{} {view:?} {slices:?} {outputs:?} {format} {dtype} {precision} {rope:?}", env!("CARGO_PKG_VERSION")).as_bytes())
    }
}

/// What a job wrote of one input.
#[derive(Debug)]
pub struct FeatureReport {
    /// [S, C, H, W] of the images that the model saw.
    pub images: [usize; 4],
    /// From the first image to the last feature written.
    pub took: Duration,
    /// The images of the last batch, [B, C, H, W].
    pub last_images: Tensor,
    /// The features of the last batch.
    pub last: Features,
}

/// A recipe with its model loaded, which takes one input after another.
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
    engine: Engine,
    request: Request,
}

impl FeatureJob {
    /// Loads the weights that `recipe` names. What does not fit the model, be it the recipe or the `input`, is refused before.
    ///
    /// # Errors
    /// If the weights or the backend cannot be had, or the recipe or the input does not fit the model.
    pub fn open(recipe: Recipe, input: Option<&Input>, observer: &dyn Observer) -> Result<Self> {
        let model = recipe.model.open(observer)?;
        Self::with_model(recipe, model, input, observer)
    }

    /// As [`FeatureJob::open`] with a model that is open already, in place of the one that the recipe names.
    ///
    /// # Errors
    /// As [`FeatureJob::open`].
    pub fn with_model(recipe: Recipe, model: OpenModel, input: Option<&Input>, observer: &dyn Observer) -> Result<Self> {
        let request = Output::request(&recipe.outputs);
        let config = model.model().config();
        request.check(config)?;
        if let Some(input) = input {
            let [_, channels, height, width] = input.shape();
            config.check_image(&[1, channels, height, width])?;
        }
        Ok(Self { engine: model.load(observer)?, recipe, request })
    }

    /// The model and its backend.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the model is asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Writes the features of the chosen slices of `input` into the file `target`, a batch at a time. An unfinished file of a run that was cut
    /// off is gone on with if it is of the same input, settings and method, and gives the same file as an undisturbed run.
    ///
    /// A file that is there already is replaced; [`Targets`] say beforehand whether it may be.
    ///
    /// # Errors
    /// If the input cannot be read or does not fit the model, the file cannot be written, or the device fails. [`Error::Cancelled`] if
    /// `observer` cancels: [`Cancel`] says what becomes of the unfinished file.
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
        tell_of_earlier_run(&file, target, &method, slices.len(), observer);
        // Batches begin where those of a run that is not cut off do. The last one is done in any case, so that there is something to report.
        file.rewind(file.written().min(slices.len() - 1) / batch * batch);
        let started = Instant::now();
        observer.progress(file.written(), slices.len());
        let mut last = None;
        let left = &slices[file.written()..];
        let done = self.engine.stream(input, left, batch, &self.request, observer, |features, images| {
            file.push(&features)?;
            observer.progress(file.written(), slices.len());
            last = Some((features, images));
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

    /// The features of the chosen slices of `input`, all in memory: S images in the order of the slices.
    ///
    /// # Errors
    /// As [`FeatureJob::write`]; there is no file.
    pub fn compute(&self, input: &mut Input, observer: &dyn Observer) -> Result<Features> {
        let mut all: Option<Features> = None;
        self.stream(input, observer, |features| {
            match &mut all {
                Some(all) => append(all, features),
                None => all = Some(features),
            }
            Ok(())
        })?;
        Ok(all.expect("at least one slice"))
    }

    /// Hands the features of the chosen slices of `input` to `take`, a batch at a time, in the order of the slices.
    ///
    /// # Errors
    /// As [`FeatureJob::compute`], and what `take` returns.
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

    /// By what features are computed `batch` images at a time, as far as it decides their last bits.
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

/// Writes the features of one scan into the file `output`, with what can be refused refused before the weights are loaded: `targets` know what
/// else the job reads and writes.
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

/// Says what is there of a run that was cut off, and whether it can be gone on with.
fn tell_of_earlier_run(file: &FeatureFile, target: &Path, method: &str, count: usize, observer: &dyn Observer) {
    if let Some(other) = file.other_method() {
        let (then, now) = (parts_without(other, method), parts_without(method, other));
        observer.note(&format!(
            "{}: an unfinished file of an earlier run is begun anew, for its values would differ in their last bits: it was computed with {then}, now it is {now}",
            target.display()
        ));
    }
    if file.written() > 0 {
        observer.note(&format!("{}: {} of {count} slices are there from a run that was cut off", target.display(), file.written()));
    }
}

/// Leaves the unfinished `file` for a later run if a device was lost, which does not make what it computed before wrong, or if the guest that
/// cancelled wants it kept; else the file is removed.
fn keep_unfinished(file: FeatureFile, error: &Error, count: usize, observer: &dyn Observer) {
    match error {
        Error::Gpu { .. } if file.written() > 0 => {
            observer.warn(&format!("{} of {count} slices are kept: the same command goes on from there", file.written()));
            file.keep();
        }
        Error::Cancelled if observer.cancelled() == Some(Cancel::Keep) => file.keep(),
        _ => {}
    }
}

/// The parts of `method` that `other` lacks.
fn parts_without(method: &str, other: &str) -> String {
    let lacking = |part: &&str| !other.split("; ").any(|known| known == *part);
    method.split("; ").filter(lacking).collect::<Vec<_>>().join(", ")
}

/// Appends the images of `batch` to those of `all`, which are of the same request.
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

    /// A manifest knows finished work by this hash: other words for the same settings would have all of it done again.
    #[test]
    fn settings_are_hashed_as_ever() {
        assert_eq!(env!("CARGO_PKG_VERSION"), "0.1.0", "another version has other hashes: take them over");
        let recipe = Recipe::new(ModelChoice::default(), View::demo(Size::Square(32)));
        assert_eq!(recipe.settings_sha256(), "673e17eab376b7c068c06d40dea23ee68bda04bba3d44db69a141916f4bf1e75");
        let other = Recipe { slices: "1:5:2".parse().expect("slices"), ..recipe.clone() };
        assert_ne!(other.settings_sha256(), recipe.settings_sha256());
        let elsewhere = Recipe {
            batch: Some(3),
            model: ModelChoice { backend: crate::backbone::Choice::Cpu, ..recipe.model.clone() },
            ..recipe.clone()
        };
        assert_eq!(elsewhere.settings_sha256(), recipe.settings_sha256(), "which device computes, and how many at a time, does not count");
    }
}
