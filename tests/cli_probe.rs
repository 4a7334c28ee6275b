//! `meddino probe` on a made-up cohort: fits, predictions and reports that agree, and an error for everything that would
//! make a figure wrong.

mod common;
#[path = "common/desk.rs"]
mod desk;

use std::fs;

use desk::{Desk, text};
use meddino::Tensor;
use serde_json::Value;

const MICRO: &str = "-c seeded:0:micro --window none --tokens cls,patch";

/// Two slices of 32 x 32 with noise; those of an ill case have a bright square somewhere.
fn scan(case: usize, is_ill: bool) -> Tensor {
    let mut values: Vec<f32> = common::uniform("scan", 2048, case as u64).iter().map(|v| 0.3 * v).collect();
    if is_ill {
        let corner = (case * 5) % 14;
        (0..2048)
            .filter(|i| (corner..corner + 16).contains(&(i / 32 % 32)) && (corner..corner + 16).contains(&(i % 32)))
            .for_each(|i| values[i] += 1.5);
    }
    Tensor::new([2, 32, 32], values)
}

/// 30 cases of 15 patients, every third patient ill, their features in `f/`, and `labels.csv` with a split.
fn desk() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.path("scans")).expect("made");
    (0..30).for_each(|case| desk.npy(&format!("scans/c{case:02}.npy"), &scan(case, case / 2 % 3 == 0)));
    desk.succeed(&format!("features scans {MICRO} --out-dir f"));
    fs::remove_file(desk.path("f/manifest.jsonl")).expect("removed");
    table(&desk, "labels.csv", |_, line| line);
    desk
}

/// Writes a table whose lines `change` may edit: case, label, patient, split.
fn table(desk: &Desk, name: &str, change: impl Fn(usize, [String; 4]) -> [String; 4]) {
    let line = |case: usize| {
        let patient = case / 2;
        let label = if patient.is_multiple_of(3) { "ill" } else { "well" };
        let split = if patient < 9 {
            "train"
        } else if patient < 12 {
            "val"
        } else {
            "test"
        };
        change(case, [format!("c{case:02}"), label.into(), format!("p{patient}"), split.into()]).join(",")
    };
    let lines: Vec<String> = (0..30).map(line).collect();
    fs::write(desk.path(name), format!("case,label,patient,split\n{}\n", lines.join("\n"))).expect("written");
}

fn json(desk: &Desk, name: &str) -> Value {
    serde_json::from_slice(&fs::read(desk.path(name)).expect("written")).expect("JSON")
}

fn refused(desk: &Desk, line: &str, problem: &str) {
    let output = desk.run(line);
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains(problem), "{line}: expected '{problem}', found: {error}");
}

#[test]
fn every_kind_of_head_is_fitted_and_judged_alike_by_two_commands() {
    let desk = desk();
    for (kind, more) in [
        ("logistic", ""),
        ("one-against-rest", "--c 0.1,1"),
        ("linear", "--steps 60 --batch 8 --rates 0.01,0.1"),
        ("adamw", "--steps 60 --batch 8 --rates 0.001,0.01 --warmup 5 --balanced"),
        ("knn", "--k 1,3,5 --vector cls+mean"),
    ] {
        let report = desk.succeed(&format!(
            "probe fit f --labels labels.csv -o {kind}.safetensors --head {kind} {more} --json {kind}.json --pictures {kind} --draws 100"
        ));
        assert!(report.contains("6 rows of 3 patients") && report.contains("balanced accuracy"), "{report}");
        for picture in ["roc.png", "confusion.png", "calibration.png"] {
            assert!(fs::read(desk.path(&format!("{kind}/{picture}"))).expect("drawn").starts_with(b"\x89PNG"));
        }
        desk.succeed(&format!("probe evaluate {kind}.safetensors f --labels labels.csv --part test --json again.json --draws 100"));
        let [fitted, again] = [format!("{kind}.json"), "again.json".into()].map(|name| json(&desk, &name)["figures"].clone());
        for name in ["accuracy", "macro AUROC", "Brier score", "log loss"] {
            let value = |figures: &Value| figures["overall"][name]["value"].as_f64().expect("a figure");
            assert!((value(&fitted) - value(&again)).abs() < 1e-6, "{kind} {name}: {} and {}", value(&fitted), value(&again));
        }
        assert_eq!(fitted["confusion"], again["confusion"]);
        // Squares of this size are no challenge: a head that finds nothing would have 2 of 3 right.
        assert!(fitted["overall"]["accuracy"]["value"].as_f64().expect("a figure") > 0.8, "{kind}: {fitted:#}");

        let predictions = desk.succeed(&format!("probe predict {kind}.safetensors f"));
        let lines: Vec<Vec<&str>> = predictions.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines[0], ["case", "predicted", "p_ill", "p_well"]);
        assert_eq!(lines.len(), 31);
        for line in &lines[1..] {
            let [ill, well] = [line[2], line[3]].map(|p| p.parse::<f64>().expect("a probability"));
            assert!((ill + well - 1.0).abs() < 1e-8 && (line[1] == "ill") == (ill >= well), "{line:?}");
        }
    }
    let first = fs::read(desk.path("logistic.safetensors")).expect("read");
    let again = desk.run("probe fit f --labels labels.csv -o logistic.safetensors --draws 100");
    let notes = text(&again.stderr);
    assert!(notes.contains("the fit of 30 vectors of 64 channels to 2 classes takes up to") && notes.contains(" of memory"), "{notes}");
    assert_eq!(fs::read(desk.path("logistic.safetensors")).expect("read"), first, "the same bytes again");
}

#[test]
fn slices_are_rows_and_parts_are_drawn_by_patient() {
    let desk = desk();
    let lines: Vec<String> = (0..60)
        .map(|i| {
            let (case, slice) = (i / 2, i % 2);
            format!("c{case:02},{slice},{},p{}", u8::from(case / 2 % 3 == 0), case / 2)
        })
        .collect();
    fs::write(desk.path("slices.csv"), format!("case,slice,grade,patient\n{}\n", lines.join("\n"))).expect("written");
    // Without a validation part, C is chosen by folds of patients.
    desk.succeed(
        "probe fit f --labels slices.csv --target grade -o h.safetensors --split 0.8,0,0.2 --folds 3 --json r.json --c 0.01,1 --draws 100",
    );
    let report = json(&desk, "r.json");
    assert_eq!((&report["figures"]["rows"], &report["figures"]["patients"]), (&12.into(), &3.into()));
    let predictions = desk.succeed("probe predict h.safetensors f");
    assert!(predictions.starts_with("case,slice,predicted,p_0,p_1\nc00,0,"), "{predictions}");
    // One of the drawn patients is known to the head, which the whole table reveals.
    refused(&desk, "probe evaluate h.safetensors f --labels slices.csv --target grade", "is one that the head was fitted to");
}

#[test]
fn what_would_make_a_figure_wrong_is_refused() {
    let desk = desk();
    let edited = |name: &str, at: usize, column: usize, cell: &str| {
        table(&desk, name, |case, mut line| {
            if case == at {
                line[column] = cell.into();
            }
            line
        });
    };
    edited("leak.csv", 0, 3, "test");
    refused(&desk, "probe fit f --labels leak.csv -o h.safetensors", "patient p0 is in two parts, test and train");
    edited("renamed.csv", 5, 0, "x05");
    refused(&desk, "probe fit f --labels renamed.csv -o h.safetensors", "has no row of case c05");
    fs::copy(desk.path("f/c05.safetensors"), desk.path("f/x06.safetensors")).expect("copied");
    refused(&desk, "probe fit f --labels labels.csv -o h.safetensors", "has no row of case x06");
    fs::remove_file(desk.path("f/x06.safetensors")).expect("removed");
    refused(
        &desk,
        "probe fit f/c00.safetensors f/c01.safetensors --labels labels.csv -o h.safetensors",
        "names case c02, of which there is no feature file",
    );
    edited("class.csv", 29, 1, "odd");
    refused(
        &desk,
        "probe fit f --labels class.csv -o h.safetensors",
        "gives case c29 the class odd, which no row of the training part has",
    );
    table(&desk, "one.csv", |_, [case, _, patient, split]| [case, "well".into(), patient, split]);
    refused(&desk, "probe fit f --labels one.csv -o h.safetensors", "has one class only in the training part, well");
    edited("twice.csv", 1, 0, "c00");
    refused(&desk, "probe fit f --labels twice.csv -o h.safetensors", "names case c00 twice");
    edited("part.csv", 3, 3, "tset");
    refused(&desk, "probe fit f --labels part.csv -o h.safetensors", "line 5: expected train, val or test, found 'tset'");
    edited("some.csv", 3, 3, "");
    refused(&desk, "probe fit f --labels some.csv -o h.safetensors", "gives 1 of 30 rows no split");
    fs::write(desk.path("columns.csv"), "case,class\nc00,1\n").expect("written");
    refused(&desk, "probe fit f --labels columns.csv -o h.safetensors", "expected a column 'label', found case, class");

    // An empty label leaves a row out.
    edited("empty.csv", 5, 1, "");
    assert!(desk.succeed("probe fit f --labels empty.csv -o e.safetensors --c 1 --draws 10").contains("6 rows"));

    // The end of the file holds the patch tokens, so the first value is one of the class token.
    let mut bytes = fs::read(desk.path("f/c07.safetensors")).expect("read");
    let whole = bytes.clone();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(desk.path("f/c07.safetensors"), bytes).expect("written");
    refused(&desk, "probe fit f --labels labels.csv -o h.safetensors", "c07.safetensors: slice 0 holds values that are NaN");
    fs::write(desk.path("f/c07.safetensors"), whole).expect("written");

    desk.succeed("probe fit f --labels labels.csv -o h.safetensors --c 1 --draws 10");
    refused(&desk, "probe evaluate h.safetensors f --labels labels.csv --draws 10", "patient p0 is one that the head was fitted to");
    refused(
        &desk,
        "probe evaluate h.safetensors f --labels class.csv --part test",
        "gives case c29 the class odd, which the head does not know",
    );
    desk.succeed("features scans -c seeded:1:micro --window none --tokens cls,patch --out-dir other");
    refused(
        &desk,
        "probe predict h.safetensors other",
        "has checkpoint seeded:1:micro, but the features that the head was fitted to have seeded:0:micro",
    );
    desk.succeed("features scans/c00.npy -c seeded:0:micro --tokens cls -o w.safetensors");
    refused(&desk, "probe predict h.safetensors w.safetensors", "has preprocessing");
    refused(&desk, "probe predict f/c00.safetensors f", "holds no head; expected a file that `meddino probe fit` wrote");
    refused(&desk, "probe fit f --labels labels.csv -o labels.csv --overwrite", "would take the place of the labels");
    refused(&desk, "probe fit f --labels labels.csv -o f/c00.safetensors --overwrite", "would take the place of the features");
    fs::write(desk.path("theirs.json"), "somebody else's").expect("written");
    refused(&desk, "probe fit f --labels labels.csv -o h.safetensors --json theirs.json", "meddino did not write it");
    refused(&desk, "probe fit f --labels labels.csv -o h.safetensors --vector mean --c 0", "c: expected a number above 0");
}

#[test]
fn scans_are_taken_in_place_of_their_features() {
    let desk = desk();
    let scans = "scans -c seeded:0:micro --window none --backend cpu";
    let fit = "--labels labels.csv --c 1 --draws 10 --overwrite -o";
    desk.succeed(&format!("probe fit f {fit} a.safetensors"));
    desk.succeed(&format!("probe fit {scans} {fit} b.safetensors"));
    let bytes = |name: &str| fs::read(desk.path(name)).expect("read");
    assert!(bytes("a.safetensors") == bytes("b.safetensors"), "the same head of scans and of their features");
    // The preprocessing is the head's, so that no flag names it.
    let model = "-c seeded:0:micro --backend cpu";
    assert_eq!(desk.succeed("probe predict a.safetensors f"), desk.succeed(&format!("probe predict a.safetensors scans {model}")));
    let judged =
        |features: &str| desk.succeed(&format!("probe evaluate a.safetensors {features} --labels labels.csv --part test --draws 10"));
    assert_eq!(judged("f"), judged(&format!("scans {model}")));

    // Other vectors, from features that stay and are used again; a case without a label is left out.
    table(&desk, "most.csv", |case, [name, label, patient, split]| [name, if case == 4 { String::new() } else { label }, patient, split]);
    let kept = format!("probe fit {scans} --keep kept --labels most.csv --c 1 --draws 10 --overwrite --vector cls+mean -o");
    desk.succeed(&format!("{kept} c.safetensors"));
    assert!(desk.path("kept/c05.safetensors").exists() && !desk.path("kept/c04.safetensors").exists());
    let again = desk.run(&format!("{kept} d.safetensors"));
    assert!(text(&again.stderr).contains("29 of 29 cases are skipped"), "{}", text(&again.stderr));
    assert!(bytes("c.safetensors") == bytes("d.safetensors"));
    desk.succeed("probe fit f --labels most.csv --c 1 --draws 10 --vector cls+mean -o e.safetensors");
    let [got, want] = ["c", "e"].map(|name| desk.read(&format!("{name}.safetensors")).0["weight"].clone());
    assert!(common::max_abs(got.data(), want.data()) < 1e-4, "{got:?} for {want:?}");

    // What does not fit is found before anything is computed.
    table(&desk, "more.csv", |case, [name, label, patient, split]| [if case == 9 { "x09".into() } else { name }, label, patient, split]);
    refused(&desk, &format!("probe fit {scans} --keep none --labels more.csv -o x.safetensors"), "names case x09");
    fs::create_dir(desk.path("theirs")).expect("made");
    fs::write(desk.path("theirs/c05.safetensors"), "somebody else's").expect("written");
    refused(&desk, &format!("probe fit {scans} --keep theirs --labels labels.csv -o x.safetensors"), "meddino did not write it");
    refused(&desk, "probe fit f --keep none --labels labels.csv -o x.safetensors", "--keep: the inputs are feature files");
    refused(&desk, &format!("probe fit {scans} --labels labels.csv -o scans/c00.npy --overwrite"), "would take the place of the features");
    fs::write(desk.path("scans/c03.npy"), "no array").expect("written");
    refused(&desk, &format!("probe predict a.safetensors scans {model}"), "1 of 30 cases failed");
    assert!(!desk.path("x.safetensors").exists() && !desk.path("none/c00.safetensors").exists());
}

#[test]
fn vectors_are_exported_for_the_challenge() {
    let desk = desk();
    let fit = "probe fit f --labels labels.csv --c 1 --draws 10 --overwrite -o h.safetensors";
    desk.succeed(&format!("{fit} --export cvpr26 --export-dir out"));
    let table = fs::read_to_string(desk.path("out/cases.csv")).expect("written");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[1], lines[30]), (31, "case,split,target", "c00,train,ill", "c29,test,well"));
    // The values end the file: the mean of the case's class tokens.
    let bytes = fs::read(desk.path("out/c07.h5")).expect("written");
    let (tensors, _) = desk.read("f/c07.safetensors");
    let cls = &tensors["x_norm_clstoken"];
    let width = cls.cols();
    let values = bytes[bytes.len() - 4 * width..].chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().expect("four bytes")));
    let mean = (0..width).map(|c| (f64::from(cls.data()[c]) + f64::from(cls.data()[width + c])) as f32 / 2.0);
    assert!(values.zip(mean).all(|(got, want)| (got - want).abs() < 1e-6));
    // Files of an earlier run are replaced, somebody else's are not.
    desk.succeed(&format!("{fit} --export cvpr26 --export-dir out"));
    fs::create_dir(desk.path("theirs")).expect("made");
    fs::write(desk.path("theirs/c07.h5"), "somebody else's").expect("written");
    let fit = fit.replace(" --overwrite", "").replace("h.safetensors", "i.safetensors");
    refused(&desk, &format!("{fit} --export cvpr26 --export-dir theirs"), "meddino did not write it");
    refused(&desk, &format!("{fit} --export cvpr26"), "--export-dir");
    let rows: Vec<String> = (0..60).map(|i| format!("c{:02},{},{},p{}", i / 2, i % 2, u8::from(i / 4 % 3 == 0), i / 4)).collect();
    fs::write(desk.path("slices.csv"), format!("case,slice,label,patient\n{}\n", rows.join("\n"))).expect("written");
    let slices = fit.replace("labels.csv", "slices.csv");
    refused(&desk, &format!("{slices} --export cvpr26 --export-dir x"), "cvpr26 has one vector a case");
    assert!(!desk.path("i.safetensors").exists() && !desk.path("x").exists());
}
