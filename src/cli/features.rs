//! `meddino features`: scans and a model become files.

use std::path::{Path, PathBuf};

use meddino::output::{Format, Output};
use meddino::{Error, Result};

use super::args;
use super::cases::{Case, Wanted};
use super::engine::{Engine, Recipe, Report};
use super::guard::guard;
use super::input::Input;
use super::many::{Many, Outputs, Settings};
use super::profile::Profiling;
use super::say::{Done, Failure, Say, written};
use super::shard::Shard;

/// The command.
pub fn run(args: &args::Features, say: Say) -> Done {
    let recipe = recipe(args)?;
    let wanted = Wanted { inputs: &args.inputs, cohort: &args.cohort, series: args.look.series.as_deref(), flag: "--out-dir" };
    if let Some(folder) = &args.out_dir {
        return many(&recipe, wanted, folder, args, say);
    }
    let case = wanted.only()?;
    let output = args.output.clone().unwrap_or_else(|| default_output(&case, recipe.format));
    let (report, device) = one(&recipe, &case, &output, args.overwrite, say)?;
    summary(&report, &device, say);
    written(&output)
}

/// Every case that is `wanted` into `folder`.
fn many(recipe: &Recipe, wanted: Wanted, folder: &Path, args: &args::Features, say: Say) -> Done {
    let files = |target: &Path| recipe.format.files(target);
    let outputs = Outputs { folder, ending: recipe.format.ending(), files: &files, own: |name| name };
    let targets = guard(args.overwrite, None, recipe.checkpoint.as_deref())?;
    let cases = Many::open(wanted, outputs, args.shard.unwrap_or(Shard::ALL), targets)?;
    let engine = Engine::open(recipe, say, |_| Ok(()))?;
    let settings = Settings { sha256: recipe.settings_sha256(), checkpoint: engine.checkpoint_id() };
    let work = |case: &Case, target: &Path| {
        let input = Input::open(case, recipe.view.clone())?;
        let report = engine.run(case, input, target, say)?;
        summary(&report, &engine.device(), say);
        Ok(())
    };
    cases.run(&settings, say, work, |_, target, _| written(target))
}

/// One case into the file `output`, and what it ran on. What can be refused is refused before the weights are loaded.
pub fn one(recipe: &Recipe, case: &Case, output: &Path, overwrite: bool, say: Say) -> Result<(Report, String), Failure> {
    let mut targets = guard(overwrite, Some(&case.input), recipe.checkpoint.as_deref())?;
    recipe.format.files(output).iter().chain(&recipe.profile.json).try_for_each(|target| targets.writes(target))?;
    let input = Input::open(case, recipe.view.clone())?;
    let [count, channels, height, width] = input.shape();
    recipe.slices.of(count)?;
    let engine = Engine::open(recipe, say, |model| model.config().check_image(&[1, channels, height, width]).map(drop))?;
    let report = engine.run(case, input, output, say)?;
    Ok((report, engine.device()))
}

fn summary(report: &Report, device: &str, say: Say) {
    let [images, _, height, width] = report.images;
    let plural = if images == 1 { "" } else { "s" };
    let seconds = report.took.as_secs_f64();
    say.note(format_args!("{images} image{plural} of {height} x {width} in {seconds:.2} s on {device}"));
}

/// What the flags set.
fn recipe(args: &args::Features) -> Result<Recipe> {
    let tokens: Vec<Output> = match args.pool {
        Some(pool) => vec![pool.into()],
        None => args.tokens.iter().map(|&tokens| tokens.into()).collect(),
    };
    let mut outputs = Vec::new();
    for output in tokens.into_iter().chain(args.layers.iter().map(|&n| Output::Layer(n))) {
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    let format = format(args.format, args.output.as_deref())?;
    format.check(&outputs)?;
    Ok(Recipe {
        checkpoint: args.model.checkpoint.clone(),
        view: (&args.look).into(),
        slices: args.slices.clone(),
        outputs,
        format,
        dtype: args.dtype.into(),
        backend: args.model.compute.choice()?,
        tuning: args.model.compute.kernels.tuning(),
        rope: args.model.rope.precision(),
        batch: args.batch.map(|batch| batch as usize),
        max_memory: args.max_memory,
        profile: Profiling { said: args.profile, json: args.profile_json.clone() },
    })
}

/// The format asked for, else the one that the output's ending names, else `.safetensors`.
fn format(asked: Option<Format>, output: Option<&Path>) -> Result<Format> {
    match (asked, output.and_then(Format::of)) {
        (Some(asked), Some(named)) if asked != named => {
            Err(Error::option("--format", format!("is {asked}, but the output's name ends in .{named}; leave one of them out")))
        }
        (asked, named) => Ok(asked.or(named).unwrap_or_default()),
    }
}

/// Where the features of a case go if nothing else is said: `NAME.features.safetensors`, in the current folder.
fn default_output(case: &Case, format: Format) -> PathBuf {
    PathBuf::from(format!("{}.features.{format}", case.name))
}
