//! `meddino probe`: fits heads to features, applies them, and judges them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use meddino::archive::{Listing, NewFile};
use meddino::fitted::{About, HeadFile};
use meddino::jobs::{
    Case, Figures, LabelTable, Making, PatchRecipe, ProbeRecipe, Vectors, View, cvpr26_files, evaluate_patches, evaluate_probe,
    export_cvpr26, fit_patches, fit_probe, make_folder, mask_of, patch_files, predict_probe, tell_fit,
};
use meddino::output::{Output, Targets, WRITTEN_BY};
use meddino::picture::{calibration_chart, confusion_chart, roc_chart, write_png};
use meddino::vit::layers::Layers;
use meddino::{Error, Result};
use serde_json::{Value, json};

use super::flags::{Labelled, Probe, ProbeCommand, ProbeEvaluate, ProbeFit, ProbePredict, Report};
use super::probe_scans::{Ready, Wanted, read, ready};
use super::terminal::Terminal;
use super::terminal::say::{Failure, result, written};

/// Runs the command.
pub fn run(args: &Probe, terminal: &Terminal) -> Result<(), Failure> {
    match &args.command {
        ProbeCommand::Fit(args) => fit(args, terminal),
        ProbeCommand::Predict(args) => predict(args, terminal),
        ProbeCommand::Evaluate(args) => evaluate(args, terminal),
    }
}

fn fit(args: &ProbeFit, terminal: &Terminal) -> Result<(), Failure> {
    if let Some(masks) = &args.labelled.masks {
        return fit_masks(args, masks, terminal);
    }
    let recipe = args.recipe()?;
    let labels = table(&args.labelled)?;
    let mut targets = targets(args.report.overwrite, &args.features, &args.labelled, None)?;
    targets.writes(&args.output)?;
    check_report(&args.report, &mut targets)?;
    let making = args.making(labels.of_slices());
    let (check, needs) = (|cases: &[Case]| labels.covers(&names(cases)), |case: &Case| labels.uses(&case.name));
    let wanted = Wanted { view: args.view.view(), outputs: args.vector.outputs(), check: &check, needs: &needs };
    let Ready { files, .. } = &ready(&args.features, &args.scans, Ok(wanted), terminal)?;
    tell_fit(&recipe, files, making, &labels, terminal)?;
    let vectors = Vectors::read(files, making, Some(&labels))?;
    if let Some(folder) = &args.export_dir {
        let files = cvpr26_files(&vectors, folder)?;
        make_folder(folder)?;
        files.iter().try_for_each(|path| targets.writes(path))?;
    }
    let report = fit_probe(&recipe, &vectors, &labels, &args.output, terminal)?;
    let [train, validation, test] = report.rows;
    terminal.note(format_args!(
        "{train} rows for training, {validation} for validation, {test} for test; {} candidates by {}",
        report.tried.len(),
        recipe.measure
    ));
    for (name, measure) in &report.tried {
        terminal.note(format_args!("  {name}: {} {measure:.6}", recipe.measure));
    }
    let text = |name: &str| report.file.about.protocol.get(name).cloned().unwrap_or_default();
    result(format_args!("{}: {}, {}", args.output.display(), text("head"), ["c", "rate", "k"].map(text).concat()))?;
    if let Some(folder) = &args.export_dir {
        export_cvpr26(&vectors, &labels, &report.parts, folder)?;
        written(folder)?;
    }
    Ok(report.figures.as_ref().map_or(Ok(()), |figures| show(figures, &args.report))?)
}

/// Fits a head on patch tokens to label maps.
fn fit_masks(args: &ProbeFit, masks: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let recipe = args.recipe()?;
    let mut targets = targets(args.report.overwrite, &args.features, &args.labelled, None)?;
    targets.writes(&args.output)?;
    if args.report.json.is_some() {
        return Err(Error::option(
            "--json",
            "a head that is fitted to label maps has no test part; judge it with `meddino probe evaluate`",
        )
        .into());
    }
    let check = |cases: &[Case]| have_masks(cases, masks);
    let layers = Layers::new(args.layers.clone())?;
    let wanted = Wanted { view: args.view.view(), outputs: Output::of_layers(&layers), check: &check, needs: &|_| true };
    let ready = ready(&args.features, &args.scans, Ok(wanted), terminal)?;
    let files = patch_files(&ready.files, &layers, masks)?;
    let ProbeRecipe { candidates, balanced, standardise, folds, .. } = recipe;
    let recipe = PatchRecipe { candidates, balanced, standardise, folds, foreground: args.foreground };
    let (file, losses) = fit_patches(&recipe, &files, &args.output, terminal)?;
    losses.iter().for_each(|(name, loss)| terminal.note(format_args!("  {name}: loss {loss:.6}")));
    let About { classes, protocol, split, .. } = &file.about;
    terminal.note(format_args!("{} patches of {} cases, labels {}", split["train"], files.len(), classes.join(", ")));
    Ok(result(format_args!("{}: {}", args.output.display(), protocol["head"]))?)
}

fn evaluate(args: &ProbeEvaluate, terminal: &Terminal) -> Result<(), Failure> {
    let mut targets = targets(args.report.overwrite, &args.features, &args.labelled, Some(&args.head))?;
    check_report(&args.report, &mut targets)?;
    if let Some(masks) = &args.labelled.masks {
        return evaluate_masks(args, masks, terminal);
    }
    let labels = table(&args.labelled)?;
    let head = HeadFile::open(&args.head)?;
    let making = Making::of(&head.about)?;
    let (check, needs) = (|cases: &[Case]| labels.covers(&names(cases)), |case: &Case| labels.uses(&case.name));
    let outputs = making.vector.outputs();
    let wanted = view_of(&head, &args.head).map(|view| Wanted { view, outputs, check: &check, needs: &needs });
    let ready = ready(&args.features, &args.scans, wanted, terminal)?;
    let vectors = Vectors::read(&ready.files, making, Some(&labels))?;
    Ok(show(&evaluate_probe(&head, &vectors, &labels, args.part, args.report.bootstrap())?, &args.report)?)
}

/// Judges a head on patch tokens by label maps.
fn evaluate_masks(args: &ProbeEvaluate, masks: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let head = HeadFile::open(&args.head)?;
    let check = |cases: &[Case]| have_masks(cases, masks);
    let layers = head.about.layers(args.head.display())?;
    let outputs = Output::of_layers(&layers);
    let wanted = view_of(&head, &args.head).map(|view| Wanted { view, outputs, check: &check, needs: &|_| true });
    let ready = ready(&args.features, &args.scans, wanted, terminal)?;
    let report = evaluate_patches(&head, &args.head, &patch_files(&ready.files, &layers, masks)?, args.report.bootstrap())?;
    result(report.table())?;
    Ok(write_json(&report.to_json(), &args.report)?)
}

fn predict(args: &ProbePredict, terminal: &Terminal) -> Result<(), Failure> {
    let mut targets = Targets::new(args.overwrite);
    targets.reads("the features", read(&args.features)?);
    targets.reads("the head", [&args.head]);
    args.output.iter().try_for_each(|path| targets.writes(path))?;
    let head = HeadFile::open(&args.head)?;
    let making = Making::of(&head.about)?;
    let outputs = making.vector.outputs();
    let wanted = view_of(&head, &args.head).map(|view| Wanted { view, outputs, check: &|_| Ok(()), needs: &|_| true });
    let ready = ready(&args.features, &args.scans, wanted, terminal)?;
    let vectors = Vectors::read(&ready.files, making, None)?;
    let text = vectors.prediction_table(&head.about.classes, &predict_probe(&head, &vectors)?);
    let Some(path) = &args.output else { return Ok(result(text.trim_end())?) };
    write(path, &text)?;
    Ok(written(path)?)
}

/// Reads the table of labels.
fn table(labelled: &Labelled) -> Result<LabelTable> {
    LabelTable::open(labelled.labels.as_deref().unwrap_or(Path::new("")), &labelled.target)
}

/// Returns the names of `cases`.
fn names(cases: &[Case]) -> BTreeSet<String> {
    cases.iter().map(|case| case.name.clone()).collect()
}

/// Checks that every case has a label map in the folder `masks`.
fn have_masks(cases: &[Case], masks: &Path) -> Result<()> {
    cases.iter().try_for_each(|case| mask_of(&case.name, masks).map(drop))
}

/// Returns how the slices became images whose features the head at `path` was fitted to.
fn view_of(head: &HeadFile, path: &Path) -> Result<View> {
    let (size, window, orient) = head.about.preprocessing(path.display())?;
    Ok(View { size, window, orient })
}

/// Returns targets that protect what is read.
fn targets(overwrite: bool, features: &[PathBuf], labelled: &Labelled, head: Option<&Path>) -> Result<Targets> {
    let mut targets = Targets::new(overwrite);
    targets.reads("the features", read(features)?);
    targets.reads("the labels", &labelled.labels);
    targets.reads(
        "a label map",
        labelled.masks.iter().flat_map(|folder| Listing::of(folder).map(|listing| listing.files).unwrap_or_default()),
    );
    targets.reads("the head", head);
    Ok(targets)
}

/// The names of pictures.
const PICTURES: [&str; 3] = ["roc.png", "confusion.png", "calibration.png"];

/// Checks that the report's files may be written.
fn check_report(report: &Report, targets: &mut Targets) -> Result<()> {
    report.json.iter().try_for_each(|path| targets.writes(path))?;
    let Some(folder) = &report.pictures else { return Ok(()) };
    make_folder(folder)?;
    PICTURES.iter().try_for_each(|name| targets.writes(folder.join(name)))
}

/// Prints the report, and writes it as JSON and as pictures if the flags ask for it.
fn show(figures: &Figures, report: &Report) -> Result<()> {
    result(figures.table())?;
    write_json(&figures.to_json(), report)?;
    let Some(folder) = &report.pictures else { return Ok(()) };
    let classes = figures.classes().len();
    let counts = |truth: usize| (0..classes).map(|guess| figures.confusion.count(truth, guess)).collect();
    let points = figures.calibration.iter().map(|bin| (bin.predicted, bin.observed)).collect::<Vec<_>>();
    // Two classes have one curve.
    let curves: Vec<_> = figures.curves.iter().enumerate().skip(usize::from(classes == 2)).collect();
    let curves: Vec<_> = curves.into_iter().filter_map(|(class, curve)| Some((class + 1, curve.as_ref()?.as_slice()))).collect();
    let pictures = [roc_chart(&curves), confusion_chart(&(0..classes).map(counts).collect::<Vec<Vec<u64>>>()), calibration_chart(&points)];
    let numbered: Vec<String> = figures.classes().iter().enumerate().map(|(i, class)| format!("{} {class}", i + 1)).collect();
    let software = format!("meddino {}", env!("CARGO_PKG_VERSION"));
    for (name, picture) in PICTURES.iter().zip(pictures) {
        let path = folder.join(name);
        let text = [
            ("Title", format!("{name} of a head on MedDINOv3 features")),
            ("Software", software.clone()),
            ("Classes", numbered.join(", ")),
        ];
        write_png(&picture, &path, &text)?;
        written(&path)?;
    }
    Ok(())
}

/// Writes `figures` to the file that the flags name, if they name one.
fn write_json(figures: &Value, report: &Report) -> Result<()> {
    let Some(path) = &report.json else { return Ok(()) };
    let text = json!({WRITTEN_BY: env!("CARGO_PKG_VERSION"), "figures": figures});
    write(path, &format!("{text:#}\n"))?;
    written(path)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_at(0, text.as_bytes()).map_err(|e| Error::output(path.display(), e.to_string()))?;
    file.commit()
}
