//! `meddino segment`: segments scans with a fine-tuned network and writes label maps.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use meddino::ct::Volume;
use meddino::jobs::{
    Case, Cohort, LabelReport, OutputFolder, Outputs, Scan, SegmentJob, Settings, Shard, beside_labels, label_statistics, name_text,
    read_of, segment_targets, without_channel,
};
use meddino::nnunet::{Region, Results};
use meddino::output::{StatisticsTable, Targets};
use meddino::{Error, Result};
use serde_json::json;

use super::flags::Segment;
use super::label_name::is_file_name;
use super::pictures::Overlay;
use super::segment_head;
use super::terminal::Terminal;
use super::terminal::interrupt::Watch;
use super::terminal::say::{Failure, result, warn};

/// Runs the command.
pub fn run(args: &Segment, terminal: &Terminal) -> Result<(), Failure> {
    if let Some(head) = &args.by_head.head {
        return segment_head::run(args, head, terminal);
    }
    let results = Results::open(args.results(), &args.folds()?, &args.chk)?;
    results.folds.iter().for_each(|(fold, network)| network.model.warnings().iter().for_each(|text| warn(format_args!("{fold}: {text}"))));
    let folds: Vec<&str> = results.folds.iter().map(|(fold, _)| fold.as_str()).collect();
    terminal.note(format_args!("{}: {} of {}", args.results().display(), folds.join(", "), results.configuration.name));
    let cohort = args.cohort.of(&args.input, args.series.series.as_deref(), "--output");
    if is_file_name(&args.output) { Ok(single(args, &cohort, results, terminal)?) } else { many(args, &cohort, results, terminal) }
}

/// Segments every case of `cohort` into the output folder.
fn many(args: &Segment, cohort: &Cohort, results: Results, terminal: &Terminal) -> Result<(), Failure> {
    let recipe = args.recipe()?;
    let ending = results.dataset.file_ending.clone();
    let files = |target: &Path| files(args, target, recipe.files(target));
    let outputs = Outputs { folder: &args.output, ending: &ending[1..], files: &files, kept: without_channel };
    let mut targets = segment_targets(args.results(), args.overwrite)?;
    targets.reads("the codes of labels", &args.dicom_seg.seg_codes);
    let mut table = Table::create(args, &mut targets)?;
    let cases = OutputFolder::open(cohort, outputs, args.shard.unwrap_or(Shard::ALL), targets, terminal)?;
    let checkpoint = results.sha256()?;
    let job = SegmentJob::open(results, recipe.clone(), terminal)?;
    let settings = Settings { sha256: recipe.settings_sha256(&format!(" {} {}", args.also.overlay, args.also.gray)), checkpoint };
    let work = |case: &Case, target: &Path| segment(&job, args, case, Scan::open(case, terminal)?, target, terminal);
    let report = cases.run(&settings, terminal, work, |case, target, report| {
        show(&job, args, case, target, report.as_ref())?;
        table.add(&job, case, target)
    })?;
    table.write()?;
    Failure::of_cases(&report)
}

/// Segments a single case into the output file. Every check that needs no weights comes before the weights are loaded.
fn single(args: &Segment, cohort: &Cohort, results: Results, terminal: &Terminal) -> Result<()> {
    let recipe = args.recipe()?;
    let cases = cohort.all(terminal)?;
    let [case] = &cases[..] else {
        let problem = format!("{} is a file, but the inputs hold {} cases; give a folder", args.output.display(), cases.len());
        return Err(Error::option("--output", problem));
    };
    let mut targets = segment_targets(args.results(), args.overwrite)?;
    targets.reads("the scan", read_of(&case.input)?);
    targets.reads("the codes of labels", &args.dicom_seg.seg_codes);
    files(args, &args.output, recipe.files(&args.output)).iter().try_for_each(|target| targets.writes(target))?;
    let mut table = Table::create(args, &mut targets)?;
    let scan = Scan::open(case, terminal)?;
    recipe.seg_header(&scan, &results)?;
    let job = SegmentJob::open(results, recipe, terminal)?;
    let report = segment(&job, args, case, scan, &args.output, terminal)?;
    show(&job, args, case, &args.output, Some(&report))?;
    table.add(&job, case, &args.output)?;
    table.write()
}

/// The table of statistics, if the flags ask for it.
struct Table<'a> {
    args: &'a Segment,
    rows: StatisticsTable,
}

impl<'a> Table<'a> {
    /// Checks that the file may be written.
    fn create(args: &'a Segment, targets: &mut Targets) -> Result<Self> {
        if let Some(path) = &args.also.statistics {
            if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
                return Err(Error::option("--statistics", format!("expected a name ending in .csv, found {}", path.display())));
            }
            targets.writes(path)?;
        }
        Ok(Self { args, rows: StatisticsTable::default() })
    }

    /// Adds a case whose labels are in the file `target`.
    fn add(&mut self, job: &SegmentJob, case: &Case, target: &Path) -> Result<()> {
        if self.args.also.statistics.is_some() {
            let dataset = &job.results().dataset;
            let mut scan = Volume::open_series(&case.input, case.series.as_deref())?;
            self.rows.push(&case.text(), &dataset.labels, &label_statistics(&mut scan, target, dataset)?);
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        self.args.also.statistics.as_ref().map_or(Ok(()), |path| self.rows.write(path, self.args.overwrite))
    }
}

/// Returns the job's files, plus the overlay if the flags ask for it. The label file is the last one.
fn files(args: &Segment, target: &Path, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    if args.also.overlay {
        files.insert(files.len() - 1, beside_labels(target, "png"));
    }
    files
}

/// Segments `scan` into the file `target`, and draws the overlay if the flags ask for it.
fn segment(job: &SegmentJob, args: &Segment, case: &Case, scan: Scan, target: &Path, terminal: &Terminal) -> Result<LabelReport> {
    let _watch = Watch::new();
    let report = job.write(scan, target, terminal)?;
    if args.also.overlay {
        let names = &job.results().dataset.labels;
        let picture = Overlay { scan: &case.input, series: case.series.as_deref(), labels: target, names };
        picture.write(&beside_labels(target, "png"), args.also.gray)?;
    }
    let ([count, height, width], seconds) = (report.shape, report.took.as_secs_f64());
    terminal.note(format_args!("{count} slices of {height} x {width} in {seconds:.2} s on {}", job.device()));
    Ok(report)
}

/// Prints the path of a case's labels and the size of each label. A case that an earlier run finished has no report.
fn show(job: &SegmentJob, args: &Segment, case: &Case, target: &Path, report: Option<&LabelReport>) -> Result<()> {
    let dataset = &job.results().dataset;
    let ml = |voxels: u64| voxels as f64 * report.map_or(0.0, |report| report.voxel_ml);
    let labels: Option<Vec<(usize, &String, u64)>> = report.map(|report| {
        let labels = dataset.labels.iter().zip(&report.voxels).enumerate().skip(1);
        labels.filter(|(_, (name, _))| !name.is_empty()).map(|(label, (name, n))| (label, name, *n)).collect()
    });
    let of_region = |region: &Region| {
        let voxels = |label: &u16| report.map_or(0, |report| report.voxels.get(usize::from(*label)).copied().unwrap_or(0));
        region.labels.iter().map(voxels).sum::<u64>()
    };
    if args.also.json {
        let row =
            |(label, name, voxels): &(usize, &String, u64)| json!({"label": label, "name": name, "voxels": voxels, "ml": ml(*voxels)});
        let mut line = json!({"input": case.text(), "output": name_text(target), "labels": labels.map(|labels| labels.iter().map(row).collect::<Vec<_>>())});
        if !dataset.regions.is_empty() {
            let row = |region: &Region| json!({"name": region.name, "labels": region.labels, "voxels": of_region(region), "ml": ml(of_region(region))});
            line["regions"] = report.map(|_| dataset.regions.iter().map(row).collect::<Vec<_>>()).into();
        }
        return result(line);
    }
    result(target.display())?;
    let Some(labels) = labels else { return Ok(()) };
    let regions = dataset.regions.iter().map(|region| &region.name);
    let width =
        labels.iter().map(|(_, name, _)| *name).chain(regions).map(|name| name.chars().count()).max().unwrap_or(0).max("name".len());
    let first = if dataset.regions.is_empty() { "label".len() } else { "region".len() };
    let row = |label: &dyn Display, name: &str, n: u64| result(format_args!("  {label:>first$}  {name:width$}  {n:>10}  {:>10.2}", ml(n)));
    result(format_args!("  {:>first$}  {:width$}  {:>10}  {:>10}", "label", "name", "voxels", "ml"))?;
    labels.iter().try_for_each(|(label, name, n)| row(label, name, *n))?;
    dataset.regions.iter().try_for_each(|region| row(&"region", &region.name, of_region(region)))
}
