//! Heads on patch tokens: fitted to label maps by `meddino probe fit --masks`, judged by `meddino probe evaluate`, and
//! applied to scans by `meddino segment --head`.

mod common;
#[path = "common/desk.rs"]
mod desk;
#[path = "device/mod.rs"]
mod device;

use std::fs;

use desk::{Desk, text};
use meddino::Tensor;
use meddino::backbone::{Backbone, Choice};
use meddino::ct::{Orient, Size, Turn, Volume, Window, prepare};
use meddino::fitted::{DenseHead, Directions, HeadFile};
use meddino::gpu::Selection;
use meddino::heads::{Chosen, Joined, Lattice, Standard};
use meddino::jobs::{Case, HeadJob, HeadRecipe, ModelChoice, fit_marks};
use meddino::output::{LabelFile, Preprocessing, Provenance};
use meddino::vit::features::Request;
use meddino::vit::source::ModelSource;
use serde_json::Value;

/// Columns, rows and slices.
const SIZE: [usize; 3] = [96, 80, 3];
const MODEL: &str = "seeded:0:micro";

/// Writes an NRRD file of `values` in the order of columns, rows, slices. With `flipped`, all axes run the other way.
fn nrrd(desk: &Desk, name: &str, values: &[i16], flipped: bool) {
    let sign = if flipped { -1 } else { 1 };
    let header = format!(
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {} {} {}\n\
         space directions: ({sign},0,0) (0,{sign},0) (0,0,{})\nspace origin: (5,6,7)\nencoding: raw\nendian: little\n\n",
        SIZE[0],
        SIZE[1],
        SIZE[2],
        2 * sign
    );
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(desk.path(name), [header.as_bytes(), &bytes].concat()).expect("written");
}

/// Writes scan `case` with a bright square of label 3 somewhere, and its label map.
fn cohort(desk: &Desk, cases: std::ops::Range<usize>) {
    for case in cases {
        let noise = common::uniform("noise", SIZE.iter().product(), case as u64);
        let (x0, y0) = (case * 29 % 50, case * 17 % 40);
        let is_lesion = |i: &usize| (x0..x0 + 40).contains(&(i % SIZE[0])) && (y0..y0 + 36).contains(&(i / SIZE[0] % SIZE[1]));
        let hu = |i: usize| (60.0 * noise[i]) as i16 + if is_lesion(&i) { 600 } else { 0 };
        let labels: Vec<i16> = (0..noise.len()).map(|i| if is_lesion(&i) { 3 } else { 0 }).collect();
        let flipped = case % 2 == 1;
        nrrd(desk, &format!("scans/c{case}_0000.nrrd"), &(0..noise.len()).map(hu).collect::<Vec<_>>(), flipped);
        nrrd(desk, &format!("masks/c{case}.nrrd"), &labels, flipped);
    }
}

fn refused(desk: &Desk, line: &str, problem: &str) {
    let output = desk.run(line);
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains(problem), "{line}: expected '{problem}', found: {error}");
}

/// The voxels of a label map as they are stored.
fn voxels(desk: &Desk, name: &str) -> Vec<f32> {
    let mut volume = Volume::open(desk.path(name)).expect("a label map");
    (0..volume.slices()).flat_map(|slice| volume.read_slice(slice).expect("read").into_data()).collect()
}

fn dice(found: &[f32], truth: &[f32]) -> f64 {
    let count = |values: &[f32]| values.iter().filter(|v| **v > 0.0).count() as f64;
    let both = found.iter().zip(truth).filter(|(a, b)| **a > 0.0 && **b > 0.0).count() as f64;
    2.0 * both / (count(found) + count(truth))
}

#[test]
fn a_head_on_patch_tokens_labels_scans_as_it_was_judged() {
    let desk = Desk::new();
    ["scans", "masks"].iter().for_each(|folder| fs::create_dir(desk.path(folder)).expect("made"));
    cohort(&desk, 0..8);
    desk.succeed(&format!("features scans -c {MODEL} --tokens patch --out-dir f"));
    fs::create_dir(desk.path("test")).expect("made");
    (5..8).for_each(|case| {
        fs::rename(desk.path(&format!("f/c{case}_0000.safetensors")), desk.path(&format!("test/c{case}_0000.safetensors"))).expect("moved");
    });
    for (name, more) in [("one", ""), ("chosen", "--c 0.01,1,100 --folds 3"), ("adamw", "--head adamw --rates 0.01 --steps 400 --batch 32")]
    {
        desk.succeed(&format!("probe fit f --masks masks -o {name}.safetensors {more}"));
        let report = desk.succeed(&format!("probe evaluate {name}.safetensors test --masks masks --json {name}.json --draws 50"));
        assert!(report.contains("3 cases") && report.contains("Dice"), "{report}");
        let json: Value = serde_json::from_slice(&fs::read(desk.path(&format!("{name}.json"))).expect("written")).expect("JSON");
        let mean = json["figures"]["labels"][1]["dice"].as_f64().expect("a Dice score");
        // All voxels as the lesion would have a Dice score of 0.32.
        assert!(mean > 0.7, "{name}: {json:#}");
    }
    let json: Value = serde_json::from_slice(&fs::read(desk.path("one.json")).expect("written")).expect("JSON");
    for shifts in [1, 2] {
        let inputs = "scans/c5_0000.nrrd scans/c6_0000.nrrd scans/c7_0000.nrrd";
        let printed = desk.succeed(&format!(
            "segment --head one.safetensors --weights {MODEL} --backend cpu --shifts {shifts} -i {inputs} -o out{shifts} --ending nrrd"
        ));
        assert!(printed.contains("c5.nrrd") && printed.contains("voxels"), "{printed}");
        for (i, case) in (5..8).enumerate() {
            let (found, truth) = (voxels(&desk, &format!("out{shifts}/c{case}.nrrd")), voxels(&desk, &format!("masks/c{case}.nrrd")));
            assert!(found.iter().all(|v| *v == 0.0 || (*v - 3.0).abs() < 1e-6));
            let (got, judged) = (dice(&found, &truth), json["figures"]["cases"][i]["dice"][1].as_f64().expect("a Dice score"));
            println!("case {case}, {shifts} shifts: {got:.4}, judged {judged:.4}");
            // One pass finds the labels that the evaluation judged; with more passes, borders are nearer to the truth.
            let is_right = if shifts == 1 { (got - judged).abs() < 1e-9 } else { got > judged + 0.02 };
            assert!(is_right, "case {case}, {shifts} shifts: {got} and {judged}");
        }
    }
    // Cases that are finished are not done again, and a single scan may go to a file.
    let line = format!("segment --head one.safetensors --weights {MODEL} --backend cpu -i scans/c5_0000.nrrd -o");
    let again = desk.run(&format!("{line} out1 --ending nrrd"));
    assert!(text(&again.stderr).contains("1 of 1 cases are skipped"), "{}", text(&again.stderr));
    desk.succeed(&format!("{line} alone.nii.gz"));
    assert_eq!(voxels(&desk, "alone.nii.gz"), voxels(&desk, "out1/c5.nrrd"));
}

#[test]
fn what_a_head_on_patch_tokens_cannot_do_is_an_error() {
    let desk = Desk::new();
    ["scans", "masks", "few"].iter().for_each(|folder| fs::create_dir(desk.path(folder)).expect("made"));
    cohort(&desk, 0..3);
    desk.succeed(&format!("features scans -c {MODEL} --tokens patch --out-dir f"));
    desk.succeed("probe fit f --masks masks -o h.safetensors");
    refused(&desk, "probe evaluate h.safetensors f --masks masks", "the head was fitted to case c0_0000");
    refused(&desk, "probe fit f --masks few -o x.safetensors", "holds no label map of case c0_0000; expected c0_0000.nii.gz");
    refused(&desk, "probe fit f -o x.safetensors", "--labels");
    refused(&desk, "probe fit f --masks masks -o masks/c0.nrrd --overwrite", "would take the place of a label map");
    refused(&desk, "probe fit f --masks masks --head knn -o x.safetensors", "expected a linear head, found neighbours");

    let moved = |name: &str, from: &str, to: &str| {
        let bytes = fs::read(desk.path("masks/c0.nrrd")).expect("read");
        let end = bytes.windows(2).position(|w| w == b"\n\n").expect("a header");
        let header = String::from_utf8_lossy(&bytes[..end]).replace(from, to);
        fs::write(desk.path(&format!("few/{name}")), [header.as_bytes(), &bytes[end..]].concat()).expect("written");
    };
    moved("c0.nrrd", "(5,6,7)", "(5,6,9)");
    refused(
        &desk,
        "probe fit f/c0_0000.safetensors --masks few -o x.safetensors",
        "lies elsewhere in the patient than the scan of case c0_0000",
    );
    moved("c0.nrrd", "96 80 3", "80 96 3");
    refused(&desk, "probe fit f/c0_0000.safetensors --masks few -o x.safetensors", "give the label map of that scan");
    nrrd(&desk, "few/c0.nrrd", &vec![-1; SIZE.iter().product()], false);
    refused(&desk, "probe fit f/c0_0000.safetensors --masks few -o x.safetensors", "expected labels, whole numbers from 0");
    nrrd(&desk, "few/c0.nrrd", &vec![0; SIZE.iter().product()], false);
    refused(&desk, "probe fit f/c0_0000.safetensors --masks few -o x.safetensors", "at least two classes");

    let segment = "segment -i scans/c1_0000.nrrd -o x.nii.gz --backend cpu --head";
    refused(&desk, &format!("{segment} h.safetensors --weights seeded:1:micro"), "has checkpoint seeded:1:micro, but");
    refused(&desk, &format!("{segment} h.safetensors --weights {MODEL} --shifts 3"), "--shifts: expected 1, 2 or 4, found 3");
    refused(&desk, &format!("{segment} f/c0_0000.safetensors --weights {MODEL}"), "holds no head");
    refused(&desk, &format!("{segment} h.safetensors -m results"), "cannot be used with");
    for flag in ["--weights seeded:0", "--shifts 2", "--rope f32", "--ending nrrd"] {
        refused(&desk, &format!("segment -m results {flag} -i scans/c1_0000.nrrd -o x.nii.gz"), "cannot be used with");
    }
    refused(&desk, "segment -i scans/c1_0000.nrrd -o x.nii.gz", "--model");
    assert!(!desk.path("x.nii.gz").exists() && !desk.path("x.safetensors").exists());
}

#[test]
fn label_maps_go_with_scans_as_with_features() {
    let desk = Desk::new();
    ["scans", "masks"].iter().for_each(|folder| fs::create_dir(desk.path(folder)).expect("made"));
    cohort(&desk, 0..4);
    desk.succeed(&format!("features scans -c {MODEL} --tokens patch --out-dir f"));
    let [scans, files] =
        ["scans/c@_0000.nrrd", "f/c@_0000.safetensors"].map(|name| [0, 1, 2].map(|i| name.replace('@', &i.to_string())).join(" "));
    let model = format!("-c {MODEL} --backend cpu");
    desk.succeed(&format!("probe fit {files} --masks masks -o a.safetensors"));
    desk.succeed(&format!("probe fit {scans} {model} --masks masks -o b.safetensors"));
    assert!(fs::read(desk.path("a.safetensors")).expect("read") == fs::read(desk.path("b.safetensors")).expect("read"));
    let judged = |features: &str| desk.succeed(&format!("probe evaluate a.safetensors {features} --masks masks --draws 10"));
    assert_eq!(judged("f/c3_0000.safetensors"), judged(&format!("scans/c3_0000.nrrd {model}")));
    fs::remove_file(desk.path("masks/c1.nrrd")).expect("removed");
    refused(&desk, &format!("probe fit {scans} {model} --keep kept --masks masks -o x.safetensors"), "holds no label map of case c1_0000");
    assert!(!desk.path("kept/c0_0000.safetensors").exists() && !desk.path("x.safetensors").exists());
}

#[test]
fn a_head_on_several_blocks_labels_scans_as_it_was_judged() {
    let desk = Desk::new();
    ["scans", "masks"].iter().for_each(|folder| fs::create_dir(desk.path(folder)).expect("made"));
    cohort(&desk, 0..5);
    desk.succeed(&format!("features scans -c {MODEL} --tokens patch --layers 0,1 --out-dir f"));
    let [scans, files] =
        ["scans/c@_0000.nrrd", "f/c@_0000.safetensors"].map(|name| [0, 1, 2, 3].map(|i| name.replace('@', &i.to_string())).join(" "));
    let model = format!("-c {MODEL} --backend cpu");
    desk.succeed(&format!("probe fit {files} --masks masks --layers 0,1 -o both.safetensors"));
    desk.succeed(&format!("probe fit {scans} {model} --masks masks --layers 0,1 -o same.safetensors"));
    assert!(fs::read(desk.path("both.safetensors")).expect("read") == fs::read(desk.path("same.safetensors")).expect("read"));
    let file = HeadFile::open(&desk.path("both.safetensors")).expect("a head");
    assert_eq!((file.about.features["layers"].as_str(), file.head.width()), ("0,1", 128));

    let judged =
        |features: &str| desk.succeed(&format!("probe evaluate both.safetensors {features} --masks masks --draws 10 --json j --overwrite"));
    assert_eq!(judged("f/c4_0000.safetensors"), judged(&format!("scans/c4_0000.nrrd {model}")));
    let json: Value = serde_json::from_slice(&fs::read(desk.path("j")).expect("written")).expect("JSON");
    let judged = json["figures"]["cases"][0]["dice"][1].as_f64().expect("a Dice score");
    let segment = |head: &str, more: &str| format!("segment --head {head} --weights {MODEL} --backend cpu -i scans/c4_0000.nrrd {more}");
    desk.succeed(&segment("both.safetensors", "-o both.nrrd"));
    let found = dice(&voxels(&desk, "both.nrrd"), &voxels(&desk, "masks/c4.nrrd"));
    assert!(judged > 0.7 && (found - judged).abs() < 1e-9, "Dice {found}, judged {judged}");

    desk.succeed(&format!("features scans/c4_0000.nrrd -c {MODEL} --tokens patch -o plain.safetensors"));
    let fit = "probe fit --masks masks -o x.safetensors";
    refused(
        &desk,
        &format!("{fit} f --layers 1,0"),
        "--layers: expected each block once and in ascending order, such as 2,5,8,11, found 1,0",
    );
    refused(
        &desk,
        &format!("{fit} f --layers 0,2"),
        "holds no layers.2; expected a .safetensors that `meddino features` wrote, with --layers 0,2",
    );
    refused(&desk, &format!("{fit} {scans} {model} --layers 0,2"), "--layers: there is no block 2: this model has blocks 0 to 1");
    for flag in ["--layers 0,1", "--foreground"] {
        refused(&desk, &format!("probe fit f --labels l.csv {flag} -o x.safetensors"), "cannot be used with");
    }
    refused(&desk, "probe evaluate both.safetensors plain.safetensors --masks masks", "holds no layers.0");
    // A head that says it is for other blocks than it was fitted to.
    let mut about = file.about;
    about.features.insert("layers".into(), "1".into());
    HeadFile { head: file.head, about }.save(&desk.path("wrong.safetensors")).expect("saved");
    refused(&desk, &segment("wrong.safetensors", "-o x.nrrd"), "128");
    assert!(!desk.path("x.nrrd").exists() && !desk.path("x.safetensors").exists());
}

/// What the viewer does with clicks, without its window.
#[test]
fn a_head_of_marks_labels_a_scan_as_its_slices_were_labelled() {
    let desk = Desk::new();
    ["scans", "masks"].iter().for_each(|folder| fs::create_dir(desk.path(folder)).expect("made"));
    // An odd case is stored the other way round.
    cohort(&desk, 1..2);
    let volume = Volume::open(desk.path("scans/c1_0000.nrrd")).expect("a scan");
    let (geometry, turn) = (volume.geometry().expect("a grid"), Turn::to_lps(volume.affine().expect("an affine")));
    let mut volume = volume.oriented(Orient::Lps).expect("turned");
    let model = ModelSource::parse(MODEL).and_then(|source| source.open()).expect("a model");
    let backbone = Backbone::new(&model, Choice::Cpu).expect("a backbone");
    let shape = (volume.height(), volume.width());
    let tokens = |slice| {
        let image = prepare(&volume.read_slice(slice).expect("read"), &Window::DEMO, Size::Native);
        let patches = backbone.features(&image, None, &Request::default()).expect("features").patches();
        let (rows, channels) = (patches.rows(), patches.cols());
        patches.reshaped([rows, channels])
    };
    let tokens: Vec<Tensor> = (0..SIZE[2]).map(tokens).collect();

    let config = model.config();
    let grid = config.grid(shape.0, shape.1).expect("a grid");
    let provenance = Provenance {
        input: "scans/c1_0000.nrrd".into(),
        input_sha256: None,
        about: Vec::new(),
        slices: vec![0, 2],
        place: None,
        image: shape,
        grid,
        preprocessing: Preprocessing::Scan { window: Window::DEMO, size: Size::Native, orient: Orient::Lps },
        config: config.clone(),
        checkpoint: MODEL.into(),
        checkpoint_sha256: None,
        backend: "CPU".into(),
    };
    // The lesion is at columns 27 to 66 and rows 27 to 62 of all turned slices.
    let patch = |x: usize, y: usize| y / 16 * grid.cols + x / 16;
    let marked = [(0, patch(35, 35), 3), (1, patch(56, 50), 3), (0, patch(5, 5), 0), (1, patch(90, 70), 0), (0, patch(40, 5), 0)];
    let slices = Joined::new([&tokens[0], &tokens[2]]);
    let rows: Vec<usize> = marked.iter().map(|(part, patch, _)| slices.row_of(*part, *patch)).collect();
    let labels = marked.map(|(.., label)| label);
    let standard = Standard::of(&slices).expect("measured");
    let file = fit_marks(&Chosen::new(&slices, &rows), &labels, &standard, &provenance, "c1_0000").expect("fitted");
    file.save(&desk.path("marks.safetensors")).expect("saved");

    let head = DenseHead::new(&file, "marks.safetensors").expect("a head on patches");
    let lattice = Lattice::new((grid.rows, grid.cols), config.patch_size, 1, shape);
    let mut map = LabelFile::create(desk.path("window.nii.gz"), &geometry, 4, turn).expect("created");
    for tokens in &tokens {
        map.push(&head.label(tokens, &lattice, shape).expect("labelled")).expect("written");
    }
    map.finish().expect("complete");
    let found = dice(&voxels(&desk, "window.nii.gz"), &voxels(&desk, "masks/c1.nrrd"));
    assert!(found > 0.7, "Dice {found}");

    let segment = format!("segment --head marks.safetensors --weights {MODEL} --backend cpu -i scans/c1_0000.nrrd -o command.nii.gz");
    desk.succeed(&segment);
    assert_eq!(fs::read(desk.path("window.nii.gz")).expect("read"), fs::read(desk.path("command.nii.gz")).expect("read"));

    let refused = |labels: &[u16]| {
        fit_marks(&Chosen::new(&slices, &rows), labels, &standard, &provenance, "c1_0000").expect_err("refused").to_string()
    };
    assert!(refused(&[3; 5]).contains("at least two classes"));
    assert!(refused(&[3, 3, 0, 0, 4096]).contains("labels from 0 to 4095, found 4096"));
    assert!(refused(&[3, 0]).contains("a target for each of 5 vectors, found 2"));
}

/// The head on a GPU sums in f32 what the head on the CPU sums in f64; it finds the same labels from the same tokens.
#[test]
fn a_head_on_a_gpu_finds_the_labels_that_the_cpu_finds_in_its_tokens() {
    if device::context().is_none() {
        return;
    }
    let desk = Desk::new();
    ["scans", "masks"].iter().for_each(|folder| fs::create_dir(desk.path(folder)).expect("made"));
    cohort(&desk, 0..3);
    desk.succeed(&format!("features scans -c {MODEL} --tokens patch --layers 0,1 --out-dir f"));
    let opened = |name: &str| DenseHead::new(&HeadFile::open(&desk.path(name)).expect("a head"), name).expect("a head on patches");
    desk.succeed("probe fit f --masks masks --layers 0 -o first.safetensors");
    let first = opened("first.safetensors");
    // One logit, and one of each of two classes; of the last block, and of both.
    for more in ["", "--head adamw --rates 0.01 --steps 200 --batch 32", "--layers 0,1"] {
        desk.succeed(&format!("probe fit f --masks masks -o head.safetensors --overwrite {more}"));
        let model = ModelChoice { checkpoint: Some(MODEL.into()), backend: Choice::Gpu(Selection::Auto), ..ModelChoice::default() };
        let recipe =
            HeadRecipe { head: desk.path("head.safetensors"), foreground: None, model, shifts: 1, batch: Some(1), max_memory: None };
        let job = HeadJob::open(recipe, &()).expect("a job");
        let case = Case::new(desk.path("scans/c1_0000.nrrd"));
        job.write(&case, &desk.path("device.nii.gz"), &()).expect("labelled");

        let mut volume = Volume::open(desk.path("scans/c1_0000.nrrd")).expect("a scan");
        let (geometry, turn) = (volume.geometry().expect("a grid"), Turn::to_lps(volume.affine().expect("an affine")));
        volume = volume.oriented(Orient::Lps).expect("turned");
        let shape = (volume.height(), volume.width());
        let config = job.engine().model().config();
        let grid = config.grid(shape.0, shape.1).expect("a grid");
        let lattice = Lattice::new((grid.rows, grid.cols), config.patch_size, 1, shape);
        let head = opened("head.safetensors");
        let on_gpu = Directions::of(&[&head, &first], config).expect("heads that f32 holds");
        let projector = job.engine().backbone().projector(&on_gpu.projection).expect("uploaded").expect("on a GPU");
        let mut map = LabelFile::create(desk.path("host.nii.gz"), &geometry, 4, turn).expect("created");
        for slice in 0..SIZE[2] {
            let image = prepare(&volume.read_slice(slice).expect("read"), &Window::DEMO, Size::Native);
            let request = Request::of_layers([head.layers(), first.layers()]);
            let features = job.engine().backbone().features(&image, None, &request).expect("features");
            map.push(&head.label(&features.joined(head.layers()), &lattice, shape).expect("labelled")).expect("written");

            let products = projector.submit(&image).expect("submitted").wait().expect("scores");
            for (head, number) in [(&head, 0), (&first, head.logits())] {
                let (got, want) =
                    (on_gpu.scores(head, number, products.data()), head.scores(&features.joined(head.layers())).expect("scores"));
                let largest = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                println!("slice {slice}, layers {}: scores differ by at most {largest:e}", head.layers());
                assert!(got.len() == want.len() && largest < 2e-5, "slice {slice}: scores differ by {largest}");
            }
        }
        map.finish().expect("complete");
        let labels = voxels(&desk, "device.nii.gz");
        assert!(labels.contains(&3.0) && labels.contains(&0.0));
        assert_eq!(labels, voxels(&desk, "host.nii.gz"), "labels{more}");
    }
}

/// Scans with air of label 7 beside a body that holds a square of label 3, and maps of the body, whose label is 2.
fn bodies(desk: &Desk, cases: std::ops::Range<usize>) {
    ["scans", "masks", "bodies"].iter().for_each(|folder| fs::create_dir(desk.path(folder)).expect("made"));
    for case in cases {
        let noise = common::uniform("noise", SIZE.iter().product(), case as u64);
        let place = |i: usize| (i % SIZE[0], i / SIZE[0] % SIZE[1]);
        let is_body = |i: usize| place(i).0 >= 16 && place(i).1 >= 16;
        let (x0, y0) = (44 + case * 7 % 6, 36 + case * 5 % 8);
        let is_lesion = |i: usize| (x0..x0 + 26).contains(&place(i).0) && (y0..y0 + 26).contains(&place(i).1);
        let hu = |i: usize| (60.0 * noise[i]) as i16 + if is_lesion(i) { 600 } else { 0 } - if is_body(i) { 0 } else { 1000 };
        let label = |i: usize| if is_lesion(i) { 3 } else { 7 * i16::from(!is_body(i)) };
        let all = |value: &dyn Fn(usize) -> i16| (0..noise.len()).map(value).collect::<Vec<i16>>();
        nrrd(desk, &format!("scans/c{case}_0000.nrrd"), &all(&hu), false);
        nrrd(desk, &format!("masks/c{case}.nrrd"), &all(&label), false);
        nrrd(desk, &format!("bodies/c{case}.nrrd"), &all(&|i| 2 * i16::from(is_body(i))), false);
    }
}

#[test]
fn what_is_around_the_body_becomes_background() {
    let desk = Desk::new();
    bodies(&desk, 0..6);
    desk.succeed(&format!("features scans -c {MODEL} --tokens patch --layers 0,1 --out-dir f"));
    fs::rename(desk.path("f/c5_0000.safetensors"), desk.path("c5_0000.safetensors")).expect("moved");
    desk.succeed("probe fit f --masks masks -o head.safetensors");
    desk.succeed("probe fit f --masks bodies --foreground -o body.safetensors");
    desk.succeed("probe fit f --masks bodies --foreground --layers 0,1 -o both.safetensors");
    let about = HeadFile::open(&desk.path("body.safetensors")).expect("a head").about;
    assert_eq!((about.classes.concat(), about.protocol["targets"].as_str()), ("01".into(), "patches of the body or around it"));

    let backends = if device::context().is_some() { vec!["cpu", "gpu"] } else { vec!["cpu"] };
    for (backend, shifts) in backends.into_iter().flat_map(|backend| [(backend, 1), (backend, 2)]) {
        let segment =
            format!("segment --head head.safetensors --weights {MODEL} --backend {backend} --shifts {shifts} -i scans/c5_0000.nrrd");
        desk.succeed(&format!("{segment} -o all{shifts}.nii.gz --overwrite"));
        // The head of the body may be for other blocks than the other one.
        let body = if shifts == 1 { "body" } else { "both" };
        desk.succeed(&format!("{segment} -o cut{shifts}.nii.gz --overwrite --foreground {body}.safetensors"));
        let [all, cut] = ["all", "cut"].map(|name| voxels(&desk, &format!("{name}{shifts}.nii.gz")));
        let count = |values: &[f32], label: f32| values.iter().filter(|v| (**v - label).abs() < 1e-6).count();
        let (air, left) = (count(&all, 7.0), count(&cut, 7.0));
        // Deeper in the body than half a patch, nothing is cut.
        let is_deep = |i: usize| i % SIZE[0] >= 24 && i / SIZE[0] % SIZE[1] >= 24;
        let wrong = (0..all.len()).filter(|i| is_deep(*i) && all[*i] > 0.0 && cut[*i] == 0.0).count();
        println!("{backend}, {shifts} shifts: {left} of {air} voxels of air are left, {wrong} deep in the body are cut");
        println!("{} of {} voxels of the lesion stay", count(&cut, 3.0), count(&all, 3.0));
        // Labels stay or become 0, and air is what becomes 0.
        assert!(all.iter().zip(&cut).all(|(all, cut)| *cut == 0.0 || cut.to_bits() == all.to_bits()));
        assert!(air > 5000 && left * 20 < air, "{backend}, {shifts} shifts: {left} of {air} voxels of air are left");
        assert!(count(&cut, 3.0) * 100 > 95 * count(&all, 3.0), "{backend}, {shifts} shifts: the body keeps its labels");
        assert_eq!(wrong, 0, "{backend}, {shifts} shifts: voxels of the body");
    }

    let segment = format!("segment --weights {MODEL} --backend cpu -i scans/c5_0000.nrrd -o x.nii.gz");
    refused(&desk, &format!("{segment} -m results --foreground body.safetensors"), "cannot be used with");
    let many: Vec<i16> = (0..SIZE.iter().product()).map(|i: usize| if i % SIZE[0] < 48 { 1 } else { 2 }).collect();
    (0..5).for_each(|case| nrrd(&desk, &format!("bodies/c{case}.nrrd"), &many, false));
    desk.succeed("probe fit f --masks bodies -o none.safetensors");
    let problem = "none.safetensors: expected a head of label 0, the background, and of what is not, found the labels 1, 2";
    refused(&desk, &format!("{segment} --head head.safetensors --foreground none.safetensors"), problem);
    refused(&desk, "probe fit f --masks bodies --foreground -o x.safetensors", "at least two classes");
    desk.succeed("features scans -c seeded:0:micro --size 64 --tokens patch --out-dir g");
    desk.succeed("probe fit g --masks masks -o other.safetensors");
    refused(&desk, &format!("{segment} --head head.safetensors --foreground other.safetensors"), "has preprocessing");
    assert!(!desk.path("x.nii.gz").exists() && !desk.path("x.safetensors").exists());
}
