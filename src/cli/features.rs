//! `meddino features`: computes features of scans and writes them to files.

use std::path::{Path, PathBuf};

use meddino::Result;
use meddino::jobs::{
    Case, Cohort, FeatureJob, FeatureReport, Input, OutputFolder, Outputs, Recipe, Settings, Shard, targets, write_features,
};
use meddino::output::Format;

use super::flags::Features;
use super::measure::Profiling;
use super::terminal::Terminal;
use super::terminal::say::{Failure, written};

/// Runs the command.
pub fn run(args: &Features, terminal: &Terminal) -> Result<(), Failure> {
    let recipe = args.recipe()?;
    let cohort = args.cohort.of(&args.inputs, args.look.series.series.as_deref(), "--out-dir");
    if let Some(folder) = &args.out_dir {
        return many(recipe, &cohort, folder, args, terminal);
    }
    let case = cohort.only(terminal)?;
    let output = args.output.clone().unwrap_or_else(|| default_output(&case, recipe.format));
    let mut targets = targets(args.overwrite, Some(&case.input), recipe.model.checkpoint.as_deref())?;
    args.profile_json.iter().try_for_each(|target| targets.writes(target))?;
    let (job, report) = write_features(&recipe, &case, &output, &mut targets, terminal)?;
    finish(&job, &report, args, terminal)?;
    Ok(written(&output)?)
}

/// Writes the features of every case of `cohort` to `folder`.
fn many(recipe: Recipe, cohort: &Cohort, folder: &Path, args: &Features, terminal: &Terminal) -> Result<(), Failure> {
    let format = recipe.format;
    let files = |target: &Path| format.files(target);
    let outputs = Outputs { folder, ending: format.ending(), files: &files, kept: |name| name };
    let targets = targets(args.overwrite, None, recipe.model.checkpoint.as_deref())?;
    let cases = OutputFolder::open(cohort, outputs, args.shard.unwrap_or(Shard::ALL), targets, terminal)?;
    let (sha256, view) = (recipe.settings_sha256(), recipe.view.clone());
    let job = FeatureJob::open(recipe, None, terminal)?;
    let settings = Settings { sha256, checkpoint: job.engine().checkpoint_id() };
    let work = |case: &Case, target: &Path| {
        let mut input = Input::open(case, view.clone(), terminal)?;
        let report = job.write(&mut input, target, terminal)?;
        finish(&job, &report, args, terminal)
    };
    let report = cases.run(&settings, terminal, work, |_, target, _| written(target))?;
    Failure::of_cases(&report)
}

/// Profiles the last batch if the flags ask for it, and prints a summary.
fn finish(job: &FeatureJob, report: &FeatureReport, args: &Features, terminal: &Terminal) -> Result<()> {
    let profiling = Profiling { for_people: args.profile, json: args.profile_json.as_deref() };
    profiling.run(job.engine(), &report.last_images, job.request(), terminal)?;
    let [images, _, height, width] = report.images;
    let plural = if images == 1 { "" } else { "s" };
    let seconds = report.took.as_secs_f64();
    let device = job.engine().backbone().device();
    terminal.note(format_args!("{images} image{plural} of {height} x {width} in {seconds:.2} s on {device}"));
    Ok(())
}

/// Returns the default output of a case: `NAME.features.safetensors` in the current folder.
fn default_output(case: &Case, format: Format) -> PathBuf {
    PathBuf::from(format!("{}.features.{format}", case.name))
}
