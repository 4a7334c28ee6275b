//! Degenerate scans: a clear error, or the right answer.

use std::fs;

use crate::desk::{Desk, hu, text};
use crate::nifti::Nifti;
use crate::{MULTISCALE, copied, edit, labels, results, scan};

/// A scan [S, H, W] of 0.9 x 1 mm and `z` mm between slices.
fn scan_of(shape: [i16; 3], z: f32, value: impl Fn(usize) -> i16) -> Nifti {
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
fn invalid_scans_are_refused() {
    let qform = |n: &mut Nifti| (n.sform_code, n.qform_code) = (0, 1);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "no spacing",
            scan_of([2, 20, 24], 2.0, noise).with(|n| (qform(n), n.pixdim[3] = 0.0).0).bytes(),
            "its header gives voxels of [1.0, 0.9, 0.0] mm",
        ),
        ("a flat affine", scan_of([2, 20, 24], 2.0, noise).with(|n| n.srow[10] = 0.0).bytes(), "its affine makes no sense"),
        ("no such affine", scan_of([2, 20, 24], 2.0, noise).with(|n| n.srow[0] = f32::NAN).bytes(), "its affine makes no sense"),
        ("huge pixels", scan_of([4, 20, 24], 1e3, noise).with(|n| n.pixdim[1..3].fill(900.0)).bytes(), "its spacing is wrong"),
        ("cut short", scan_of([4, 20, 24], 1.0, noise).bytes()[..900].to_vec(), "the file is damaged"),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let desk = Desk::new();
        fs::write(desk.path("scan.nii"), bytes).expect("written");
        let output = desk.run(&line("scan.nii"));
        let stderr = text(&output.stderr);
        if output.status.code() != Some(1) || !stderr.contains(expected) || desk.files() != ["scan.nii"] {
            wrong.push(format!("{name}: {} and '{expected}' not in: {stderr}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(2, 20, 24));
    let stderr = text(&desk.run(&line("scan.npy")).stderr);
    assert!(stderr.contains("does not say how far its voxels are apart"), "{stderr}");
}

/// nnU-Net's readers that do not turn scans take voxel sizes from pixdim. With the same pixdim the labels and their
/// millilitres are the same, whatever the lengths of the sform's columns.
#[test]
fn voxel_sizes_come_from_pixdim() {
    let desk = Desk::new();
    let plain = scan_of([3, 60, 70], 2.0, noise);
    let run = |scan: &Nifti| {
        fs::write(desk.path("scan.nii"), scan.bytes()).expect("written");
        let output = desk.run(&(line("scan.nii") + " --json"));
        let (shown, messages) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{messages}");
        let ml: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        (labels(desk.path("labels.nii.gz")), ml["labels"].clone(), messages)
    };
    let (want, ml, messages) = run(&plain);
    assert!(!messages.contains("two sizes"), "{messages}");
    let voxels =
        ml.as_array().expect("labels").iter().map(|l| (l["voxels"].as_f64().expect("a number"), l["ml"].as_f64().expect("a number")));
    assert!(voxels.into_iter().all(|(n, ml)| (ml - n * 0.0018).abs() < 1e-6), "1 x 0.9 x 2 mm: {ml}");
    let unit = |n: &mut Nifti| (n.srow[0], n.srow[5], n.srow[10]) = (1.0, 1.0, 1.0);
    let qform = |n: &mut Nifti| (n.qform_code, n.sform_code) = (1, 2);
    let changes: [&dyn Fn(&mut Nifti); 4] =
        [&unit, &|n| (unit(n), qform(n)).1, &|n| (n.srow[0], n.srow[5]) = (-0.5, 4.0), &|n| n.srow[10] = 0.001];
    for (i, change) in changes.into_iter().enumerate() {
        let (got, got_ml, messages) = run(&plain.clone().with(change));
        assert!(got == want && got_ml == ml, "{i}: {messages}");
        assert!(messages.contains("two sizes of voxels") && messages.contains("1 x 0.9 x 2 by pixdim"), "{i}: {messages}");
    }
    // nnU-Net takes a pixdim of ones too, and its labels differ. The user learns of it only through the warning.
    let ones = plain.clone().with(|n| n.pixdim[1..4].fill(1.0));
    let (got, _, messages) = run(&ones);
    assert!(got != want && messages.contains("1 x 1 x 1 by pixdim, 1 x 0.9 x 2 by its sform"), "{messages}");
    assert!(got == run(&ones.with(unit)).0);
    // A pixdim of zeros gives way to the sform.
    let (got, _, messages) = run(&plain.with(|n| n.pixdim[1..4].fill(0.0)));
    assert!(got == want && messages.contains("(pixdim[1] is 0); its sform's was taken"), "{messages}");
}

/// Where pixdim contradicts the sform, a network gets the sizes of its reader, and a note says which. The choices are
/// those of nibabel 5.4 (`as_reoriented(io_orientation(affine))` makes a new pixdim for an image that it turns) and
/// SimpleITK 2.5 (`DICOMOrient` keeps the spacing).
#[test]
fn each_reader_takes_its_own_of_two_sizes() {
    let desk = Desk::new();
    let model = copied(&desk, MULTISCALE);
    let plans = fs::read_to_string(model.join("plans.json")).expect("plans");
    let scan = |is_lps: bool, pixdim: [f32; 3], sform: [f32; 3]| {
        scan_of([3, 60, 70], 2.0, noise).with(|n| {
            n.pixdim[1..4].copy_from_slice(&pixdim);
            (n.srow[0], n.srow[5], n.srow[10]) = if is_lps { (-sform[0], -sform[1], sform[2]) } else { sform.into() };
        })
    };
    let run = |scan: &Nifti| {
        fs::write(desk.path("scan.nii"), scan.bytes()).expect("written");
        let output = desk.run("segment -m model -f 0 --disable-tta -i scan.nii -o labels.nii.gz --backend cpu");
        assert!(output.status.success(), "{}", text(&output.stderr));
        (labels(desk.path("labels.nii.gz")), text(&output.stderr))
    };
    let (pixdim, sform) = ([1.0, 0.9, 2.0], [1.3, 1.2, 3.0]);
    for (reader, is_lps, is_pixdim) in [
        ("SimpleITKIO", true, true),
        ("NibabelIO", true, true),
        ("SimpleITKIOWithReorient", true, true),
        ("SimpleITKIOWithReorient", false, true),
        ("NibabelIOWithReorient", true, false),
        ("NibabelIOWithReorient", false, true),
    ] {
        fs::write(model.join("plans.json"), plans.replace("SimpleITKIO", reader)).expect("written");
        let (got, messages) = run(&scan(is_lps, pixdim, sform));
        let note = if is_pixdim {
            format!("1 x 0.9 x 2 mm (columns, rows, slices), by pixdim, as {reader} reads this scan")
        } else {
            format!("1.3 x 1.2 x 3 mm (columns, rows, slices), by its sform, as {reader} reads this scan, which turns it")
        };
        assert!(messages.contains("two sizes of voxels") && messages.contains(&note), "{reader}, LPS {is_lps}: {messages}");
        for (sizes, is_those) in [(pixdim, is_pixdim), (sform, !is_pixdim)] {
            let (labels, messages) = run(&scan(is_lps, sizes, sizes));
            assert_eq!(labels == got, is_those, "{reader}, LPS {is_lps}: the labels of {sizes:?}");
            assert!(!messages.contains("the networks get voxels of"), "{reader}: {messages}");
        }
    }
}

#[test]
fn degenerate_scans_are_segmented() {
    for (name, scan) in [
        ("all zero", scan_of([2, 20, 24], 2.0, |_| 0)),
        ("one voxel", scan_of([1, 1, 1], 2.0, |_| 50)),
        ("one slice", scan_of([1, 70, 90], 2.0, noise)),
        ("one row", scan_of([3, 1, 90], 2.0, noise)),
        ("one voxel that is not 0", scan_of([3, 20, 24], 2.0, |i| if i == 700 { 60 } else { 0 })),
        ("one value", scan_of([2, 70, 24], 2.0, |_| -1000)),
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

/// Each of a thousand slices gets the same labels alone as in the whole scan.
#[test]
fn a_thousand_slices() {
    let desk = Desk::new();
    let (shape, area) = ([1000, 18, 20], 18 * 20);
    fs::write(desk.path("scan.nii"), scan_of(shape, 5.0, noise).bytes()).expect("written");
    desk.succeed(&line("scan.nii"));
    let all_labels = labels(desk.path("labels.nii.gz"));
    assert_eq!(all_labels.len(), 1000 * area);
    for index in [0, 499, 999] {
        let alone = scan_of([1, 18, 20], 5.0, |i| noise(index * area + i));
        fs::write(desk.path("alone.nii"), alone.bytes()).expect("written");
        desk.succeed(&line("alone.nii").replace("labels.nii.gz", "one.nii"));
        let slice_labels = labels(desk.path("one.nii"));
        assert!(slice_labels == all_labels[index * area..][..area], "slice {index}");
        assert!(slice_labels.iter().any(|label| *label != slice_labels[0]), "more than one label");
    }
}

#[test]
fn several_scans_may_not_be_written_to_one_file() {
    let desk = Desk::new();
    let inputs = format!("{} {}", scan("thin").display(), scan("thick").display());
    let stderr = text(&desk.run(&line(&inputs)).stderr);
    assert!(stderr.contains("labels.nii.gz is a file, but the inputs hold 2 cases"), "{stderr}");
    fs::copy(scan("thin"), desk.path("labels.nii.gz")).expect("copied");
    let stderr = text(&desk.run(&line("labels.nii.gz")).stderr);
    assert!(stderr.contains("would take the place of the scan, labels.nii.gz"), "{stderr}");
}

/// Thick rows are resampled by nearest neighbour; other plans are refused.
#[test]
fn splines_across_thick_rows_are_refused() {
    let desk = Desk::new();
    edit(&copied(&desk, MULTISCALE).join("plans.json"), "\"order_z\": 0", "\"order_z\": 1");
    let run = |input: &str| desk.run(&format!("segment -m model -f 0 --disable-tta --backend cpu -i {input} -o labels.nii.gz"));
    let stderr = text(&run(&scan("rows").display().to_string()).stderr);
    assert!(stderr.contains("the plans ask for splines across rows (order_z), and only nearest neighbours"), "{stderr}");
    assert!(run(&scan("thick").display().to_string()).status.success(), "thick slices are not resampled across each other");
}

/// `force_separate_z` of the plans decides whether slices are resampled one by one or together.
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
    // nnU-Net takes false if the plans do not set it.
    edit(&plans, "\"order_z\": 0,\n    \"force_separate_z\": false", "\"order_z\": 0");
    run("unsaid.nii.gz");
    let bytes = |name: &str| fs::read(desk.path(name)).expect("read");
    assert!(bytes("auto.npz") == bytes("forced.npz") && bytes("auto.nii.gz") == bytes("forced.nii.gz"));
    assert!(bytes("unsaid.npz") == bytes("together.npz"));
    assert!(bytes("auto.npz") != bytes("together.npz"), "splines are clamped to the range of the slice, or of the scan");
}

/// The second run is told which process is writing, and the first run's labels are complete.
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
