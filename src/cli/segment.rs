//! `meddino segment`: scans and a fine-tuned network become maps of labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meddino::archive::{Listing, sha256};
use meddino::ct::{Geometry, Volume};
use meddino::nnunet::{Frame, Prepared, Results, Segmented, Tiling};
use meddino::output::{LabelFile, ProbabilityFile, Targets, WRITTEN_BY};
use meddino::segmenter::Segmenter;
use meddino::{Error, Result};
use serde_json::json;

use super::cases::{Case, Wanted};
use super::guard::read_of;
use super::many::{Many, Outputs, Settings};
use super::memory;
use super::overlay::Overlay;
use super::progress::Progress;
use super::say::{Done, Failure, Say, result, warn};
use super::search::is_own;
use super::segment_args::{Also, Segment};
use super::shard::Shard;
use super::text::text;
use super::{interrupt, pipeline};

/// The command.
pub fn run(args: &Segment, say: Say) -> Done {
    let results = Results::open(&args.model, &args.folds()?, &args.chk)?;
    results.folds.iter().for_each(|(fold, network)| network.model.warnings().iter().for_each(|text| warn(format_args!("{fold}: {text}"))));
    let folds: Vec<&str> = results.folds.iter().map(|(fold, _)| fold.as_str()).collect();
    say.note(format_args!("{}: {} of {}", args.model.display(), folds.join(", "), results.configuration.name));
    let mirror_axes = if args.disable_tta { &[] } else { results.mirror_axes() };
    let tiling = Tiling::new(results.configuration.tile, args.step()?, mirror_axes);
    if is_file_name(&args.output) {
        return one(args, &results, &tiling, say);
    }
    let files = |target: &Path| args.also.files(target);
    let outputs = Outputs { folder: &args.output, ending: &results.dataset.file_ending[1..], files: &files, own };
    let cases = Many::open(wanted(args), outputs, args.shard.unwrap_or(Shard::ALL), guard(args)?)?;
    let segmenter = open(&results, args)?;
    let job = Job { args, results: &results, tiling: &tiling, segmenter: &segmenter };
    let settings = Settings { sha256: job.settings_sha256(), checkpoint: results.sha256()? };
    let work = |case: &Case, target: &Path| job.run(case, Scan::open(case)?, target, say);
    cases.run(&settings, say, work, |case, target, summary| job.show(case, target, summary.as_ref()))
}

/// The one case into the file that was named. What can be refused is refused before the weights are loaded.
fn one(args: &Segment, results: &Results, tiling: &Tiling, say: Say) -> Done {
    let cases = wanted(args).all()?;
    let [case] = &cases[..] else {
        let problem = format!("{} is a file, but the inputs are {} cases; name a folder", args.output.display(), cases.len());
        return Err(Error::option("--output", problem).into());
    };
    let mut targets = guard(args)?;
    targets.reads("the scan", read_of(&case.input)?);
    args.also.files(&args.output).iter().try_for_each(|target| targets.writes(target))?;
    let scan = Scan::open(case)?;
    let segmenter = open(results, args)?;
    let job = Job { args, results, tiling, segmenter: &segmenter };
    let summary = job.run(case, scan, &args.output, say)?;
    job.show(case, &args.output, Some(&summary))
}

/// Targets that are none of the files of the results folder.
fn guard(args: &Segment) -> Result<Targets> {
    let mut targets = Targets::new(args.overwrite);
    let files = Listing::below(&args.model).map_err(|e| Error::checkpoint(args.model.display(), e))?.files;
    targets.reads("a file of the results folder", files.into_iter().filter(|file| !is_own(file)));
    Ok(targets)
}

/// The networks on their backend, with what there is to say about that said.
fn open(results: &Results, args: &Segment) -> Result<Segmenter> {
    let segmenter = Segmenter::new(results, &args.compute.choice()?, args.compute.kernels.tuning())?;
    segmenter.warnings().iter().for_each(warn);
    Ok(segmenter)
}

fn is_file_name(output: &Path) -> bool {
    let name = output.to_string_lossy().to_lowercase();
    !output.is_dir() && [".nii.gz", ".nii"].iter().any(|ending| name.ends_with(ending))
}

fn wanted(args: &Segment) -> Wanted<'_> {
    Wanted { inputs: &args.input, cohort: &args.cohort, series: args.series.as_deref(), flag: "--output" }
}

/// A case's name as nnU-Net has it, which numbers the channels: `case` for `case_0000`.
fn own(name: &str) -> &str {
    name.strip_suffix("_0000").filter(|name| !name.is_empty()).unwrap_or(name)
}

/// An open scan, its axes as stored, and where it lies.
struct Scan {
    volume: Volume,
    geometry: Geometry,
}

impl Scan {
    fn open(case: &Case) -> Result<Self> {
        refuse_channel(case)?;
        let volume = Volume::open_series(&case.input, case.series.as_deref())?;
        volume.warnings().iter().for_each(|text| warn(format_args!("{}: {text}", case.input.display())));
        let geometry = volume.geometry()?;
        Ok(Self { volume, geometry })
    }
}

/// Refuses `case_0001` beside `case_0000`, which is another channel of the same case.
fn refuse_channel(case: &Case) -> Result<()> {
    // A name that is no text numbers no channel.
    let name = case.input.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((stem, rest)) = name.rsplit_once('_') else { return Ok(()) };
    let Some((channel, ending)) = rest.split_once('.') else { return Ok(()) };
    let is_channel = channel.len() == 4 && channel != "0000" && channel.bytes().all(|b| b.is_ascii_digit());
    let first = case.input.with_file_name(format!("{stem}_0000.{ending}"));
    if is_channel && first.exists() {
        let problem = format!("is channel {channel} of the case {stem}, beside {}; only one channel, CT, is supported", first.display());
        return Err(Error::input(case.input.display(), problem));
    }
    Ok(())
}

/// Everything that turns scans into labels.
struct Job<'a> {
    args: &'a Segment,
    results: &'a Results,
    tiling: &'a Tiling,
    segmenter: &'a Segmenter,
}

/// How much of a scan each label takes.
struct Summary {
    /// By label.
    voxels: Vec<u64>,
    voxel_ml: f64,
}

impl Job<'_> {
    /// What decides the labels beside the networks, hashed. Which device computes does not count.
    fn settings_sha256(&self) -> String {
        let Segment { step_size, disable_tta, also, compute, .. } = self.args;
        let Also { save_probabilities, overlay, gray, .. } = also;
        let (version, precision) = (env!("CARGO_PKG_VERSION"), compute.kernels.tuning().precision);
        let settings = format!("{precision} {step_size} {disable_tta} {save_probabilities} {overlay} {gray}");
        sha256(format!("{version} segment {settings}").as_bytes())
    }

    /// Segments `scan` into the file `target`.
    fn run(&self, case: &Case, scan: Scan, target: &Path, say: Say) -> Result<Summary, Failure> {
        let Scan { volume, geometry } = scan;
        let mut prepared = Prepared::new(volume, geometry.spacing(), &self.results.configuration)?;
        let frame = prepared.frame().clone();
        let batch = self.batch(&frame)?;
        let mut summary = Summary { voxels: vec![0; self.segmenter.classes()], voxel_ml: geometry.voxel_ml() };

        let _watch = interrupt::Watch::new();
        let mut output = Output::create(target, &geometry, self)?;
        let mut progress = Progress::new(0, frame.shape[0], say);
        let mut slices = 0..frame.shape[0];
        pipeline::run(
            || slices.next().map(|index| prepared.slice(index).map_err(Failure::from)),
            |slice| {
                interrupt::check()?;
                let scores = slice.map(|slice| self.segmenter.slice(&slice, self.tiling, batch, interrupt::check)).transpose()?;
                Ok(frame.restore(scores.as_ref(), self.segmenter.classes(), self.args.also.save_probabilities))
            },
            |segmented: Segmented| {
                segmented.labels.iter().for_each(|label| summary.voxels[usize::from(*label)] += 1);
                output.push(&segmented)?;
                progress.step(1);
                Ok(())
            },
        )?;
        output.finish()?;
        if self.args.also.overlay {
            let picture =
                Overlay { scan: &case.input, series: case.series.as_deref(), labels: target, names: &self.results.dataset.labels };
            picture.write(&beside_labels(target, "png"), self.args.also.gray)?;
        }
        let [count, height, width] = frame.shape;
        let (seconds, device) = (progress.elapsed().as_secs_f64(), self.segmenter.device());
        say.note(format_args!("{count} slices of {height} x {width} in {seconds:.2} s on {device}"));
        Ok(summary)
    }

    /// How many tiles go through the network at once.
    fn batch(&self, frame: &Frame) -> Result<usize> {
        if let Some(batch) = self.args.batch {
            return Ok(batch as usize);
        }
        let ([rows, columns], [_, height, width]) = (self.results.configuration.tile, frame.shape);
        // The scores of a slice being summed and on their way back; what is saved of it, computed, waiting and being written.
        let pixels = 2 * frame.padded.iter().product::<usize>() + height * width * if self.args.also.save_probabilities { 4 } else { 1 };
        let slice = (self.segmenter.classes() * pixels * size_of::<f32>()) as u64;
        let need = |batch: usize| self.segmenter.bytes([batch, 1, rows, columns], frame.padded).map(|bytes| bytes + slice);
        let what = format!("one tile of {rows} x {columns} needs {{}} with the weights; give more");
        memory::fit(self.tiling.passes(frame.padded).len(), self.segmenter.is_on_cpu(), self.args.max_memory, need, &what)
    }

    /// Prints where the labels of a case are and how much each takes; without a summary, an earlier run was done with it.
    fn show(&self, case: &Case, target: &Path, summary: Option<&Summary>) -> Done {
        let names = &self.results.dataset.labels;
        let ml = |voxels: u64| voxels as f64 * summary.map_or(0.0, |summary| summary.voxel_ml);
        let counted =
            summary.map(|summary| names.iter().zip(&summary.voxels).enumerate().skip(1).map(|(label, (name, n))| (label, name, *n)));
        let counted: Option<Vec<_>> = counted.map(Iterator::collect);
        if self.args.also.json {
            let row =
                |(label, name, voxels): &(usize, &String, u64)| json!({"label": label, "name": name, "voxels": voxels, "ml": ml(*voxels)});
            let labels = counted.map(|counted| counted.iter().map(row).collect::<Vec<_>>());
            return result(json!({"input": case.text(), "output": text(target), "labels": labels}));
        }
        result(target.display())?;
        let Some(counted) = counted else { return Ok(()) };
        let width = counted.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or(0).max("name".len());
        result(format_args!("  label  {:width$}  {:>10}  {:>10}", "name", "voxels", "ml"))?;
        counted.iter().try_for_each(|(label, name, n)| result(format_args!("  {label:>5}  {name:width$}  {n:>10}  {:>10.2}", ml(*n))))
    }
}

/// The files that a case becomes.
struct Output {
    labels: LabelFile,
    probabilities: Option<ProbabilityFile>,
}

impl Output {
    fn create(target: &Path, geometry: &Geometry, job: &Job) -> Result<Self> {
        let (classes, order) = (job.segmenter.classes(), job.results.configuration.transpose);
        let metadata = || {
            BTreeMap::from([
                (WRITTEN_BY.to_string(), env!("CARGO_PKG_VERSION").to_string()),
                ("labels".to_string(), json!(job.results.dataset.labels).to_string()),
            ])
        };
        let create = |path: PathBuf| ProbabilityFile::create(&path, classes, geometry.shape(), order, metadata());
        let probabilities = job.args.also.save_probabilities.then(|| create(beside_labels(target, "npz"))).transpose()?;
        Ok(Self { labels: LabelFile::create(target, geometry, classes, order)?, probabilities })
    }

    fn push(&mut self, segmented: &Segmented) -> Result<()> {
        if let (Some(file), Some(probabilities)) = (&mut self.probabilities, &segmented.probabilities) {
            file.push(probabilities)?;
        }
        self.labels.push(&segmented.labels)
    }

    /// The labels last: where they are, the case is done.
    fn finish(self) -> Result<()> {
        self.probabilities.map(ProbabilityFile::finish).transpose()?;
        self.labels.finish()
    }
}

impl Also {
    /// The files that a case becomes whose labels go to `target`; the labels last.
    fn files(&self, target: &Path) -> Vec<PathBuf> {
        let beside = [(self.save_probabilities, "npz"), (self.overlay, "png")].into_iter().filter(|(wanted, _)| *wanted);
        beside.map(|(_, ending)| beside_labels(target, ending)).chain([target.into()]).collect()
    }
}

/// `NAME.ENDING` beside `NAME.nii.gz`.
fn beside_labels(target: &Path, ending: &str) -> PathBuf {
    let stem =
        if target.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz")) { target.with_extension("") } else { target.to_path_buf() };
    stem.with_extension(ending)
}
