//! `meddino features`: an input and a model become one file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meddino::backbone::{Backbone, Choice, Tuning};
use meddino::output::{FeatureFile, Output, Provenance};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Features;
use meddino::vit::model::Model;
use meddino::{Error, Result};

use super::args;
use super::input::{Input, View, default_output};
use super::progress::Progress;
use super::say::{Done, Say, result, warn};
use super::weights;

/// Everything that decides what is computed and where it goes.
pub struct Job {
    pub input: String,
    /// None: the released one.
    pub checkpoint: Option<String>,
    pub output: PathBuf,
    pub view: View,
    pub outputs: Vec<Output>,
    pub backend: Choice,
    pub tuning: Tuning,
    pub rope: Option<RopePrecision>,
    pub batch: usize,
    pub profile: bool,
}

/// What came out of a [`Job`].
pub struct Report {
    /// [S, C, H, W] of the images that the model saw.
    pub images: [usize; 4],
    /// What it ran on.
    pub device: String,
    /// From the first image to the last feature written.
    pub took: Duration,
    /// Those of the last image.
    pub last: Features,
}

/// The command.
pub fn run(args: &args::Features, say: Say) -> Done {
    let job = Job::new(args)?;
    let report = job.run(say)?;
    let [images, _, height, width] = report.images;
    let plural = if images == 1 { "" } else { "s" };
    let seconds = report.took.as_secs_f64();
    say.note(format_args!("{images} image{plural} of {height} x {width} in {seconds:.2} s on {}", report.device));
    result(job.output.display())
}

impl Job {
    /// The job that the flags describe.
    fn new(args: &args::Features) -> Result<Self> {
        let mut outputs = Vec::new();
        for output in args.tokens.iter().map(|&t| t.into()).chain(args.layers.iter().map(|&n| Output::Layer(n))) {
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        Ok(Self {
            input: args.input.clone(),
            checkpoint: args.model.checkpoint.clone(),
            output: args.output.clone().unwrap_or_else(|| default_output(&args.input)),
            view: (&args.look).into(),
            outputs,
            backend: args.model.choice()?,
            tuning: args.model.kernels.tuning(),
            rope: args.model.rope.precision(),
            batch: args.batch as usize,
            profile: args.profile,
        })
    }

    /// Runs every image through the model, a batch at a time. What can be refused is refused before the weights are loaded.
    pub fn run(&self, say: Say) -> Result<Report> {
        refuse_overwriting(&self.output, [&self.input].into_iter().chain(&self.checkpoint))?;
        let mut input = Input::open(&self.input, self.view.clone())?;
        let checkpoint = weights::or_released(self.checkpoint.as_deref(), say)?;
        let model = open_model(&checkpoint, self.rope)?;
        let images @ [count, channels, height, width] = input.shape();
        let config = model.config().clone();
        let (_, grid) = config.check_image(&[1, channels, height, width])?;
        let request = Output::request(&self.outputs);
        request.check(&config)?;
        let backbone = open_backbone(&model, self.backend.clone(), self.tuning)?;
        let provenance = Provenance {
            input: self.input.clone(),
            image: (height, width),
            grid,
            preprocessing: input.preprocessing(),
            config: config.clone(),
            checkpoint,
            checkpoint_sha256: model.checkpoint().sha256()?,
            backend: backbone.device(),
        };
        let mut file = FeatureFile::create(&self.output, &config, grid, count, &self.outputs, &provenance.metadata())?;
        let mut progress = Progress::new(count, say);
        let mut last = None;
        for first in (0..count).step_by(self.batch) {
            let batch = input.batch(first..count.min(first + self.batch))?;
            let features = backbone.features(&batch, None, &request)?;
            file.push(&features)?;
            progress.step(batch.shape()[0]);
            last = Some((batch, features));
        }
        file.finish()?;
        let took = progress.finish();
        let (batch, last) = last.expect("every input holds an image");
        if self.profile {
            say.note(backbone.profile(&batch, &request)?);
        }
        Ok(Report { images, device: backbone.device(), took, last })
    }
}

/// The model, with what there is to say about it said, and another RoPE precision if one is asked for.
pub fn open_model(checkpoint: &str, rope: Option<RopePrecision>) -> Result<Model> {
    let mut model = Model::open(checkpoint)?;
    model.warnings().iter().for_each(warn);
    rope.into_iter().for_each(|rope| model.set_rope(rope));
    Ok(model)
}

/// The model on its backend, with what there is to say about that said.
pub fn open_backbone(model: &Model, choice: Choice, tuning: Tuning) -> Result<Backbone> {
    let backbone = Backbone::tuned(model, choice, tuning)?;
    backbone.warnings().iter().for_each(warn);
    Ok(backbone)
}

/// An output that is one of the inputs would take its place.
pub fn refuse_overwriting<'a>(output: &Path, inputs: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let Ok(real) = output.canonicalize() else { return Ok(()) };
    match inputs.into_iter().find(|input| Path::new(input).canonicalize().is_ok_and(|input| input == real)) {
        Some(input) => Err(Error::output(output.display(), format!("is the input {input}, which it would replace; give another name"))),
        None => Ok(()),
    }
}
