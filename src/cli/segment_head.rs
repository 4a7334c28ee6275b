//! `meddino segment --head`: labels scans by a head on patch tokens.

use std::path::{Path, PathBuf};

use meddino::jobs::{
    Case, Cohort, HeadJob, HeadRecipe, LabelReport, OutputFolder, Outputs, Settings, Shard, read_of, targets, without_channel,
};
use meddino::output::Targets;
use meddino::{Error, Result};
use serde_json::json;

use super::flags::Segment;
use super::label_name::is_file_name;
use super::terminal::Terminal;
use super::terminal::interrupt::Watch;
use super::terminal::say::{Failure, result};

/// Labels the scans into a folder, or one scan into a file.
pub fn run(args: &Segment, head: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let recipe = args.head_recipe(head)?;
    let cohort = args.cohort.of(&args.input, args.series.series.as_deref(), "--output");
    let mut targets = targets(args.overwrite, None, recipe.model.checkpoint.as_deref())?;
    targets.reads("the head", [head]);
    targets.reads("the head of the body", &args.by_head.foreground);
    if is_file_name(&args.output) {
        return Ok(single(args, recipe, &cohort, targets, terminal)?);
    }
    many(args, recipe, &cohort, targets, terminal)
}

fn single(args: &Segment, recipe: HeadRecipe, cohort: &Cohort, mut targets: Targets, terminal: &Terminal) -> Result<()> {
    let cases = cohort.all(terminal)?;
    let [case] = &cases[..] else {
        let problem = format!("{} is a file, but the inputs hold {} cases; give a folder", args.output.display(), cases.len());
        return Err(Error::option("--output", problem));
    };
    targets.reads("the scan", read_of(&case.input)?);
    targets.writes(&args.output)?;
    let job = HeadJob::open(recipe, terminal)?;
    let report = label(&job, case, &args.output, terminal)?;
    show(args, case, &args.output, Some(&report))
}

fn many(args: &Segment, recipe: HeadRecipe, cohort: &Cohort, targets: Targets, terminal: &Terminal) -> Result<(), Failure> {
    let files = |target: &Path| -> Vec<PathBuf> { vec![target.into()] };
    let outputs = Outputs { folder: &args.output, ending: &args.by_head.ending, files: &files, kept: without_channel };
    let cases = OutputFolder::open(cohort, outputs, args.shard.unwrap_or(Shard::ALL), targets, terminal)?;
    let job = HeadJob::open(recipe, terminal)?;
    let settings = Settings { sha256: job.settings_sha256(), checkpoint: job.engine().checkpoint_id() };
    let work = |case: &Case, target: &Path| label(&job, case, target, terminal);
    let report = cases.run(&settings, terminal, work, |case, target, report| show(args, case, target, report.as_ref()))?;
    Failure::of_cases(&report)
}

fn label(job: &HeadJob, case: &Case, target: &Path, terminal: &Terminal) -> Result<LabelReport> {
    let _watch = Watch::new();
    let report = job.write(case, target, terminal)?;
    let ([count, height, width], seconds) = (report.shape, report.took.as_secs_f64());
    terminal.note(format_args!("{count} slices of {height} x {width} in {seconds:.2} s on {}", job.engine().backbone().device()));
    Ok(report)
}

/// Prints the path of a case's labels and the size of each label. A case that an earlier run finished has no report.
fn show(args: &Segment, case: &Case, target: &Path, report: Option<&LabelReport>) -> Result<()> {
    let sizes = |report: &LabelReport| -> Vec<(usize, u64, f64)> {
        let found = report.voxels.iter().enumerate().skip(1).filter(|(_, voxels)| **voxels > 0);
        found.map(|(label, voxels)| (label, *voxels, *voxels as f64 * report.voxel_ml)).collect()
    };
    let labels = report.map(sizes);
    if args.also.json {
        let row = |(label, voxels, ml): &(usize, u64, f64)| json!({"label": label, "voxels": voxels, "ml": ml});
        let labels = labels.map(|labels| labels.iter().map(row).collect::<Vec<_>>());
        return result(json!({"input": case.text(), "output": target.display().to_string(), "labels": labels}));
    }
    result(target.display())?;
    let Some(labels) = labels else { return Ok(()) };
    result(format_args!("  {:>5}  {:>10}  {:>10}", "label", "voxels", "ml"))?;
    labels.iter().try_for_each(|(label, voxels, ml)| result(format_args!("  {label:>5}  {voxels:>10}  {ml:>10.2}")))
}
