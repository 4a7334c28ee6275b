//! A program that uses only the library: features and labels of scans in memory and in files, with progress, cancelled
//! and resumed, and with the same bits as the command's.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use meddino::backbone::Choice;
use meddino::ct::{Geometry, Size, Volume};
use meddino::jobs::{
    Cancel, Case, Cohort, FeatureJob, Input, LabelMap, ModelChoice, Names, Observer, OutputFolder, Outputs, Recipe, Scan, SegmentJob,
    SegmentRecipe, Settings, Shard, View, targets, write_features,
};
use meddino::nnunet::{Folds, Results};
use meddino::output::Output;
use meddino::vit::features::{Features, Request};
use meddino::{Error, Tensor};

/// A call of the observer by a job.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Begins,
    Progress(usize, usize),
    Ends,
    Note(String),
    Warning(String),
}

/// Records every event, and cancels after a number of steps of progress.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<Event>>,
    cancels: Option<(usize, Cancel)>,
}

impl Recorder {
    /// A recorder that cancels after `steps` steps of progress. The first step of a scan is its starting point.
    fn cancelling(steps: usize, cancel: Cancel) -> Self {
        Self { cancels: Some((steps, cancel)), ..Self::default() }
    }

    fn record(&self, event: Event) {
        self.events.lock().expect("nobody panicked").push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().expect("nobody panicked").clone()
    }

    /// The steps of progress, as (done, total).
    fn steps(&self) -> Vec<(usize, usize)> {
        self.events()
            .iter()
            .filter_map(|event| if let Event::Progress(done, total) = event { Some((*done, *total)) } else { None })
            .collect()
    }
}

impl Observer for Recorder {
    fn begins(&self) {
        self.record(Event::Begins);
    }

    fn progress(&self, done: usize, total: usize) {
        self.record(Event::Progress(done, total));
    }

    fn ends(&self) {
        self.record(Event::Ends);
    }

    fn note(&self, text: &str) {
        self.record(Event::Note(text.into()));
    }

    fn warn(&self, text: &str) {
        self.record(Event::Warning(text.into()));
    }

    fn cancelled(&self) -> Option<Cancel> {
        let (steps, cancel) = self.cancels?;
        (self.steps().len() >= steps).then_some(cancel)
    }
}

fn scan(case: &str) -> PathBuf {
    common::data(&format!("fixtures/nnunet/imagesTs/{case}_0000.nii.gz"))
}

fn results() -> PathBuf {
    common::data("fixtures/nnunet/results/meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small")
}

/// The HU of a scan in storage order, and its geometry.
fn array(case: &str) -> (Vec<f32>, Geometry) {
    let mut volume = Volume::open(scan(case)).expect("a scan");
    let slices = 0..volume.slices();
    let hu = slices.flat_map(|index| volume.read_slice(index).expect("a slice").into_data()).collect();
    let affine = *volume.affine().expect("a NIfTI file has an affine");
    (hu, Geometry::new([volume.slices(), volume.height(), volume.width()], affine).expect("a geometry"))
}

/// The same scan, in memory.
fn in_memory(case: &str) -> Volume {
    let (hu, geometry) = array(case);
    Volume::from_array(case, hu, &geometry).expect("a volume")
}

/// A recipe for cls, patch and prenorm tokens and those of the first block, by an untrained small model on the CPU, one
/// image at a time.
fn recipe() -> Recipe {
    let model = ModelChoice { checkpoint: Some("seeded:0:micro".into()), backend: Choice::Cpu, ..ModelChoice::default() };
    let outputs = vec![Output::Cls, Output::Patch, Output::Prenorm, Output::Layer(0)];
    Recipe { outputs, batch: Some(1), ..Recipe::new(model, View::demo(Size::Square(32))) }
}

const FEATURE_FLAGS: &str = "-c seeded:0:micro --size 32 --tokens cls,patch,prenorm --layers 0 --backend cpu";

/// Runs the command in `folder`. Returns `None` without the feature `cli`, because there is no command to compare with.
fn command(folder: &Path, line: &str) -> Option<String> {
    let mut command = Command::new(option_env!("CARGO_BIN_EXE_meddino")?);
    let output = command.current_dir(folder).args(line.split_whitespace()).output().expect("the command starts");
    let stderr = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(output.status.success(), "{line}: {stderr}");
    Some(stderr)
}

/// The tensors of a file of features, sorted by name.
fn tensors(path: &Path) -> Vec<(String, Tensor)> {
    let (mut tensors, _) = common::read_safetensors(path);
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

fn metadata(path: &Path) -> std::collections::HashMap<String, String> {
    common::read_safetensors(path).1
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().to_string_lossy().to_string();
    let mut names: Vec<String> = fs::read_dir(folder).expect("listed").map(name).collect();
    names.sort();
    names
}

/// The tensors that a file holds for the features of [`FeatureJob::compute`].
fn outputs(features: &Features) -> Vec<(String, Tensor)> {
    let prenorm = features.x_prenorm.clone().expect("wanted");
    let (number, layer) = features.layers[0].clone();
    vec![
        (format!("layers.{number}"), layer),
        ("x_norm_clstoken".into(), features.cls()),
        ("x_norm_patchtokens".into(), features.patches()),
        ("x_prenorm".into(), prenorm),
    ]
}

#[test]
fn features_of_a_volume_in_memory_are_those_of_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let recorder = Recorder::default();
    let recipe = recipe();
    let mut input = Input::from_volume(in_memory("thin"), recipe.view.clone()).expect("an input");
    let count = input.shape()[0];
    let job = FeatureJob::open(recipe, Some(&input), &recorder).expect("a job");
    let warnings =
        |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Warning(text) if text.contains("untrained"))).count();
    assert_eq!(warnings(&recorder.events()), 1, "seeded weights are warned of: {:?}", recorder.events());

    let listening = Recorder::default();
    let computed = job.compute(&mut input, &listening).expect("computed");
    let steps = (0..=count).map(|done| Event::Progress(done, count));
    let want: Vec<Event> = [Event::Begins].into_iter().chain(steps).chain([Event::Ends]).collect();
    assert_eq!(listening.events(), want);
    let report = job.write(&mut input, &at("memory.safetensors"), &listening).expect("written");
    assert_eq!((report.images, report.last.cls().shape()), ([count, 1, 32, 32], &[1, 64][..]));
    assert_eq!(outputs(&computed), tensors(&at("memory.safetensors")), "into memory, and into a file");

    // The library and the command write the same bytes for the scan's file.
    let case = Case::new(scan("thin"));
    let mut targets = targets(false, Some(&case.input), None).expect("targets");
    let recipe = Recipe { batch: None, ..self::recipe() };
    write_features(&recipe, &case, &at("library.safetensors"), &mut targets, &()).expect("written");
    assert_eq!(tensors(&at("library.safetensors")), tensors(&at("memory.safetensors")));
    let (of_file, of_memory) = (metadata(&at("library.safetensors")), metadata(&at("memory.safetensors")));
    for name in ["affine", "patch_affine", "slices", "preprocessing", "checkpoint", "grid"] {
        assert_eq!(of_memory[name], of_file[name], "{name}");
    }
    assert_eq!(of_memory["input"], "thin");
    assert_ne!(of_memory["input_sha256"], of_file["input_sha256"], "values are no file");
    if command(folder.path(), &format!("features {} -o command.safetensors {FEATURE_FLAGS}", scan("thin").display())).is_some() {
        assert_eq!(fs::read(at("library.safetensors")).expect("read"), fs::read(at("command.safetensors")).expect("read"));
    }
}

#[test]
fn a_cancelled_job_is_resumed_only_with_the_same_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let job = FeatureJob::open(recipe(), None, &()).expect("a job");
    let input = |volume: Volume| Input::from_volume(volume, recipe().view).expect("an input");
    job.write(&mut input(in_memory("thin")), &at("whole.safetensors"), &()).expect("written");
    let whole = fs::read(at("whole.safetensors")).expect("read");
    let count = input(in_memory("thin")).shape()[0];
    let cancel = |cancel: Cancel| {
        let recorder = Recorder::cancelling(3, cancel);
        let error = job.write(&mut input(in_memory("thin")), &at("x.safetensors"), &recorder).expect_err("cancelled");
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(recorder.events().last(), Some(&Event::Ends));
        assert_eq!(recorder.steps(), [(0, count), (1, count), (2, count)]);
    };

    cancel(Cancel::Discard);
    assert_eq!(names(folder.path()), ["whole.safetensors"]);
    cancel(Cancel::Keep);
    assert_eq!(names(folder.path()), [".x.safetensors.partial", "whole.safetensors"]);
    let recorder = Recorder::default();
    job.write(&mut input(in_memory("thin")), &at("x.safetensors"), &recorder).expect("written");
    assert!(recorder.steps()[0].0 > 0, "{:?}", recorder.events());
    assert!(recorder.events().iter().any(|event| matches!(event, Event::Note(text) if text.contains("resuming an interrupted run"))));
    assert_eq!(fs::read(at("x.safetensors")).expect("read"), whole);
    assert_eq!(names(folder.path()), ["whole.safetensors", "x.safetensors"]);

    // Another volume of the same name and shape starts again.
    fs::remove_file(at("x.safetensors")).expect("removed");
    cancel(Cancel::Keep);
    let (mut hu, geometry) = array("thin");
    *hu.last_mut().expect("a voxel") += 1.0;
    let recorder = Recorder::default();
    let mut changed = input(Volume::from_array("thin", hu, &geometry).expect("a volume"));
    job.write(&mut changed, &at("x.safetensors"), &recorder).expect("written");
    assert_eq!(recorder.steps()[0], (0, count));
}

#[test]
fn images_in_memory_are_used_unchanged() {
    let values = common::uniform("images", 3 * 32 * 32, 5);
    let images = Tensor::new([3, 1, 32, 32], values);
    let mut input = Input::from_images("made", images.clone(), Size::Native).expect("images");
    let job = FeatureJob::open(recipe(), Some(&input), &()).expect("a job");
    let got = job.compute(&mut input, &()).expect("computed");
    let want = job.engine().backbone().features(&images, None, job.request()).expect("computed");
    assert_eq!(got.x_norm, want.x_norm);
}

fn segment_job(probabilities: bool) -> SegmentJob {
    let results = Results::open(results(), &Folds::These(vec![0]), "checkpoint_final.pth").expect("a results folder");
    SegmentJob::open(results, SegmentRecipe { backend: Choice::Cpu, mirror: false, probabilities, ..SegmentRecipe::default() }, &())
        .expect("a job")
}

/// The labels of a file, in storage order.
fn labels(path: &Path) -> Vec<u16> {
    let mut volume = Volume::open(path).expect("labels");
    (0..volume.slices()).flat_map(|index| volume.read_slice(index).expect("a slice").into_data()).map(|v| v as u16).collect()
}

#[test]
fn a_volume_in_memory_gets_the_labels_of_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let job = segment_job(true);
    for case in ["thin", "thick"] {
        let recorder = Recorder::default();
        let (map, report) = job.compute(Scan::from_volume(in_memory(case)).expect("a scan"), &recorder).expect("computed");
        let count = report.shape[0];
        assert_eq!(recorder.steps(), (0..=count).map(|done| (done, count)).collect::<Vec<_>>(), "{case}");
        let LabelMap { labels: computed, probabilities, shape } = &map;
        for (label, voxels) in report.voxels.iter().enumerate() {
            assert_eq!(computed.iter().filter(|v| usize::from(**v) == label).count() as u64, *voxels, "{case}");
        }
        assert!(report.voxels[1..].iter().all(|voxels| *voxels > 0), "{case}: {report:?}");
        let probabilities = probabilities.as_ref().expect("wanted");
        let voxels = computed.len();
        assert_eq!((probabilities.shape(), shape.iter().product::<usize>()), (&[&[4][..], shape].concat()[..], voxels));
        let best = |voxel: usize| {
            let probability = |class: usize| probabilities.data()[class * voxels + voxel];
            (1..4).fold(0, |best, class| if probability(class) > probability(best) { class } else { best })
        };
        assert!((0..voxels).all(|voxel| best(voxel) == usize::from(computed[voxel])), "{case}: labels are the likeliest classes");

        let (library, name) = (at(&format!("{case}.nii.gz")), at(&format!("command_{case}.nii.gz")));
        job.write(Scan::open(&Case::new(scan(case)), &()).expect("a scan"), &library, &()).expect("written");
        assert_eq!(labels(&library), *computed, "{case}: into memory, and into a file");
        let flags = "-f 0 --disable-tta --save-probabilities --backend cpu";
        let line = format!("segment -m {} -i {} -o {} {flags}", results().display(), scan(case).display(), name.display());
        if command(folder.path(), &line).is_some() {
            for ending in ["nii.gz", "npz"] {
                let bytes = |name: String| fs::read(at(&name)).expect("read");
                assert_eq!(bytes(format!("{case}.{ending}")), bytes(format!("command_{case}.{ending}")), "{case}.{ending}");
            }
        }
    }
}

#[test]
fn a_cancelled_segmentation_leaves_no_file_and_can_be_repeated() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let job = segment_job(false);
    let scan = || Scan::from_volume(in_memory("thick")).expect("a scan");
    job.write(scan(), &at("whole.nii"), &()).expect("written");
    for cancel in [Cancel::Discard, Cancel::Keep] {
        let recorder = Recorder::cancelling(2, cancel);
        let error = job.write(scan(), &at("x.nii"), &recorder).expect_err("cancelled");
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(recorder.events().last(), Some(&Event::Ends));
        assert_eq!(names(folder.path()), ["whole.nii"], "{cancel:?}");
    }
    job.write(scan(), &at("x.nii"), &()).expect("written");
    assert_eq!(fs::read(at("x.nii")).expect("read"), fs::read(at("whole.nii")).expect("read"));
}

/// A program's run over many cases and the command's over the same skip the cases that the other has finished.
#[test]
fn a_cancelled_cohort_is_resumed_and_recognised_by_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("scans")).expect("made");
    for case in ["thick", "thin"] {
        fs::copy(scan(case), at(&format!("scans/{case}_0000.nii.gz"))).expect("copied");
    }
    fs::write(at("scans/notes.txt"), "no scan").expect("written");
    let recipe = recipe();
    let run = |recorder: &Recorder| {
        let cohort = Cohort { names: Names::File, ..Cohort::new([at("scans")]) };
        let out = at("out");
        let outputs =
            Outputs { folder: &out, ending: recipe.format.ending(), files: &|target| recipe.format.files(target), kept: |name| name };
        let targets = targets(false, None, recipe.model.checkpoint.as_deref()).expect("targets");
        let cases = OutputFolder::open(&cohort, outputs, Shard::ALL, targets, recorder).expect("cases");
        let job = FeatureJob::open(recipe.clone(), None, &()).expect("a job");
        let settings = Settings { sha256: recipe.settings_sha256(), checkpoint: job.engine().checkpoint_id() };
        let work = |case: &Case, target: &Path| {
            let mut input = Input::open(case, recipe.view.clone(), recorder)?;
            job.write(&mut input, target, recorder).map(drop)
        };
        cases.run(&settings, recorder, work, |_, _, _| Ok(()))
    };

    let thick = Volume::open(scan("thick")).expect("a scan").slices();
    // The steps of the thick scan, including the first, and two slices of the thin one.
    let recorder = Recorder::cancelling((1 + thick) + (1 + 2), Cancel::Keep);
    let error = run(&recorder).expect_err("cancelled");
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(recorder.events().iter().any(|event| matches!(event, Event::Warning(text) if text.contains("1 file is not a scan"))));
    assert_eq!(names(&at("out")), [".thin_0000.safetensors.partial", "manifest.jsonl", "thick_0000.safetensors"]);
    let recorder = Recorder::default();
    let report = run(&recorder).expect("done");
    assert_eq!((report.total, report.finished_before, report.failed.len()), (2, 1, 0));
    assert!(recorder.steps()[0].0 > 0, "the second case is resumed: {:?}", recorder.events());
    assert_eq!(names(&at("out")), ["manifest.jsonl", "thick_0000.safetensors", "thin_0000.safetensors"]);
    if let Some(stderr) = command(folder.path(), &format!("features scans --out-dir out --names file {FEATURE_FLAGS}")) {
        assert!(stderr.contains("2 of 2 cases are skipped"), "{stderr}");
    }
    // A case that fails is reported, and does not stop the others.
    fs::write(at("scans/bad.npy"), "no array").expect("written");
    let report = run(&Recorder::default()).expect("done");
    assert_eq!((report.total, report.finished_before, report.failed.len()), (3, 2, 1));
    let [(case, error)] = &report.failed[..] else { panic!("{report:?}") };
    assert!(case.input.ends_with("bad.npy") && matches!(error, Error::Input { .. }), "{error}");
}

/// Cancels once it was asked a number of times.
struct Asked {
    times: AtomicUsize,
    enough: usize,
}

impl Observer for Asked {
    fn cancelled(&self) -> Option<Cancel> {
        (self.times.fetch_add(1, Ordering::Relaxed) >= self.enough).then_some(Cancel::Discard)
    }
}

/// A batch on the CPU ends before its next block, not with the batch.
#[test]
fn a_cancelled_batch_computes_no_further_block() {
    let choice = ModelChoice { checkpoint: Some("seeded:0:tiny".into()), backend: Choice::Cpu, ..ModelChoice::default() };
    let engine = choice.open(&()).and_then(|model| model.load(&())).expect("a model");
    let (images, depth) = (Tensor::zeros([1, 1, 32, 32]), engine.model().config().depth);
    for enough in 0..=depth {
        let observer = Asked { times: AtomicUsize::new(0), enough };
        let outcome = engine.submit(&images, None, &Request::default(), &observer);
        let asked = observer.times.into_inner();
        if enough < depth {
            assert!(matches!(outcome, Err(Error::Cancelled)) && asked == enough + 1, "asked {asked} times, {enough} were enough");
        } else {
            assert!(outcome.is_ok() && asked == depth, "a check for each of {depth} blocks, found {asked}");
        }
    }
}
