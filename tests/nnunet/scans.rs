//! Scans at the edge of sense: a clear error, or the right answer.

use std::fs;

use crate::desk::{Desk, hu, text};
use crate::nifti::Nifti;
use crate::{MULTISCALE, copied, edit, labels, results, scan};

/// A scan [S, H, W] of 0.9 x 1 mm and `z` mm between slices.
fn of(shape: [i16; 3], z: f32, value: impl Fn(usize) -> i16) -> Nifti {
    let count = shape.iter().map(|n| *n as usize).product();
    Nifti::i16(shape, (0..count).map(value)).with(|n| {
        n.pixdim[1..4].copy_from_slice(&[1.0, 0.9, z]);
        (n.srow[0], n.srow[5], n.srow[10]) = (1.0, 0.9, z);
    })
}

fn line(input: &str) -> String {
    format!("segment -m {} -f 0 --disable-tta -i {input} -o labels.nii.gz --backend cpu", results(MULTISCALE).display())
}

fn noise(i: usize) -> i16 {
    (i * 7919 % 523) as i16 - 200
}

#[test]
fn scans_that_make_no_sense_are_refused() {
    let qform = |n: &mut Nifti| (n.sform_code, n.qform_code) = (0, 1);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "no spacing",
            of([2, 20, 24], 2.0, noise).with(|n| (qform(n), n.pixdim[3] = 0.0).0).bytes(),
            "its header gives voxels of [1.0, 0.9, 0.0] mm",
        ),
        ("a flat affine", of([2, 20, 24], 2.0, noise).with(|n| n.srow[10] = 0.0).bytes(), "its affine makes no sense"),
        ("no such affine", of([2, 20, 24], 2.0, noise).with(|n| n.srow[0] = f32::NAN).bytes(), "its affine makes no sense"),
        ("thick rows", of([4, 20, 24], 1.0, noise).with(|n| n.srow[5] = 5.0).bytes(), "across rows, nnU-Net would take nearest neighbours"),
        ("huge pixels", of([4, 20, 24], 1e3, noise).with(|n| (n.srow[0], n.srow[5]) = (900.0, 900.0)).bytes(), "its spacing is wrong"),
        ("cut short", of([4, 20, 24], 1.0, noise).bytes()[..900].to_vec(), "the file is damaged"),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, said) in cases {
        let desk = Desk::new();
        fs::write(desk.path("scan.nii"), bytes).expect("written");
        let output = desk.run(&line("scan.nii"));
        let stderr = text(&output.stderr);
        if output.status.code() != Some(1) || !stderr.contains(said) || desk.files() != ["scan.nii"] {
            wrong.push(format!("{name}: {} and '{said}' not in: {stderr}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(2, 20, 24));
    let stderr = text(&desk.run(&line("scan.npy")).stderr);
    assert!(stderr.contains("does not say how far its voxels are apart"), "{stderr}");
}

#[test]
fn scans_at_the_edge_of_sense_are_segmented() {
    for (name, scan) in [
        ("all zero", of([2, 20, 24], 2.0, |_| 0)),
        ("one voxel", of([1, 1, 1], 2.0, |_| 50)),
        ("one slice", of([1, 70, 90], 2.0, noise)),
        ("one row", of([3, 1, 90], 2.0, noise)),
        ("one voxel that is not 0", of([3, 20, 24], 2.0, |i| if i == 700 { 60 } else { 0 })),
        ("one value", of([2, 70, 24], 2.0, |_| -1000)),
    ] {
        let desk = Desk::new();
        fs::write(desk.path("scan.nii"), scan.bytes()).expect("written");
        desk.succeed(&line("scan.nii"));
        let labels = labels(desk.path("labels.nii.gz"));
        assert_eq!(labels.len() * 2, scan.voxels.len(), "{name}");
        let outside = labels.iter().enumerate().filter(|(i, _)| name == "one voxel that is not 0" && *i != 700);
        assert!(outside.into_iter().all(|(_, label)| *label == 0), "{name}: what is cropped away is background");
    }
}

/// A thousand slices, each with labels of its own: a slice alone has those that it has among the others.
#[test]
fn a_thousand_slices() {
    let desk = Desk::new();
    let (shape, area) = ([1000, 18, 20], 18 * 20);
    fs::write(desk.path("scan.nii"), of(shape, 5.0, noise).bytes()).expect("written");
    desk.succeed(&line("scan.nii"));
    let all = labels(desk.path("labels.nii.gz"));
    assert_eq!(all.len(), 1000 * area);
    for index in [0, 499, 999] {
        let alone = of([1, 18, 20], 5.0, |i| noise(index * area + i));
        fs::write(desk.path("alone.nii"), alone.bytes()).expect("written");
        desk.succeed(&line("alone.nii").replace("labels.nii.gz", "one.nii"));
        let one = labels(desk.path("one.nii"));
        assert!(one == all[index * area..][..area], "slice {index}");
        assert!(one.iter().any(|label| *label != one[0]), "more than one label");
    }
}

#[test]
fn several_scans_do_not_go_into_one_file() {
    let desk = Desk::new();
    let inputs = format!("{} {}", scan("thin").display(), scan("thick").display());
    let stderr = text(&desk.run(&line(&inputs)).stderr);
    assert!(stderr.contains("labels.nii.gz is a file, but the inputs are 2 cases"), "{stderr}");
    fs::copy(scan("thin"), desk.path("labels.nii.gz")).expect("copied");
    let stderr = text(&desk.run(&line("labels.nii.gz")).stderr);
    assert!(stderr.contains("would take the place of the scan, labels.nii.gz"), "{stderr}");
}

/// nnU-Net takes the spacings' ratio that the plans name.
#[test]
fn slices_are_resampled_together_if_the_plans_say_so() {
    let desk = Desk::new();
    let plans = copied(&desk, MULTISCALE).join("plans.json");
    let input = crate::common::data("fixtures/nnunet/prepare/by_slice.nii.gz").display().to_string();
    let run =
        |out: &str| desk.succeed(&format!("segment -m model -f 0 --disable-tta --backend cpu --save-probabilities -i {input} -o {out}"));
    run("auto.nii.gz");
    edit(&plans, "\"force_separate_z\": null", "\"force_separate_z\": true");
    run("forced.nii.gz");
    edit(&plans, "\"force_separate_z\": true", "\"force_separate_z\": false");
    run("together.nii.gz");
    // nnU-Net's own function takes false for what is not said.
    edit(&plans, "\"order_z\": 0,\n    \"force_separate_z\": false", "\"order_z\": 0");
    run("unsaid.nii.gz");
    let bytes = |name: &str| fs::read(desk.path(name)).expect("read");
    assert!(bytes("auto.npz") == bytes("forced.npz") && bytes("auto.nii.gz") == bytes("forced.nii.gz"));
    assert!(bytes("unsaid.npz") == bytes("together.npz"));
    assert!(bytes("auto.npz") != bytes("together.npz"), "splines are held to the range of the slice, or of the scan");
}

/// Whoever comes second is told who is writing, and the first one's labels are whole.
#[test]
fn two_runs_do_not_write_one_label_map() {
    use std::process::Stdio;
    let desk = Desk::new();
    let line = format!("{} --save-probabilities", line(&scan("thick").display().to_string()));
    let start = || desk.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let runs: Vec<_> = [start(), start()].into_iter().map(|run| run.wait_with_output().expect("ended")).collect();
    for run in runs.iter().filter(|run| !run.status.success()) {
        assert!(text(&run.stderr).contains("is writing it"), "{}", text(&run.stderr));
    }
    assert!(runs.iter().any(|run| run.status.success()));
    let labels = crate::labels(desk.path("labels.nii.gz"));
    desk.succeed(&line);
    assert_eq!(crate::labels(desk.path("labels.nii.gz")), labels);
    assert_eq!(desk.files(), ["labels.nii.gz", "labels.npz"]);
}
