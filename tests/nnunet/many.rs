//! Many cases: output names, printed text, skipped cases and failures.

use std::fs;

use meddino::ct::{Orient, Volume};
use serde_json::Value;

use crate::desk::{Desk, text};
use crate::{MULTISCALE, results, scan};

/// A folder with `imagesTs` of two scans.
fn desk() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.path("imagesTs")).expect("made");
    for case in ["thin", "thick"] {
        fs::copy(scan(case), desk.path(&format!("imagesTs/{case}_0000.nii.gz"))).expect("copied");
    }
    desk
}

fn line(flags: &str) -> String {
    format!("segment -m {} -f 0 --disable-tta -o out --backend cpu {flags}", results(MULTISCALE).display())
}

#[test]
fn names_are_those_of_nnunet_and_finished_cases_are_skipped() {
    let desk = desk();
    let shown = desk.succeed(&line("-i imagesTs --save-probabilities"));
    let heads: Vec<&str> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(heads, ["out/thick.nii.gz", "out/thin.nii.gz"]);
    assert!(shown.contains("  label  name        voxels          ml\n      1  liver "), "{shown}");
    let mut names: Vec<_> = fs::read_dir(desk.path("out")).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["manifest.jsonl", "thick.nii.gz", "thick.npz", "thin.nii.gz", "thin.npz"]);

    let before = fs::read(desk.path("out/thin.nii.gz")).expect("read");
    let again = desk.run(&line("-i imagesTs --save-probabilities"));
    assert!(text(&again.stderr).contains("2 of 2 cases are skipped"), "{}", text(&again.stderr));
    assert_eq!(text(&again.stdout).lines().count(), 2);
    // With other settings the cases are computed again. The labels are the same.
    let with_json = desk.run(&line("-i imagesTs --json"));
    assert!(!text(&with_json.stderr).contains("an earlier run finished"));
    assert_eq!(fs::read(desk.path("out/thin.nii.gz")).expect("read"), before);
    assert!(desk.run(&line("-i imagesTs")).status.success());
}

#[test]
fn a_summary_counts_voxels_and_millilitres() {
    let desk = desk();
    let shown = desk.succeed(&line("-i imagesTs/thin_0000.nii.gz --json"));
    let summary: Value = serde_json::from_str(&shown).expect("JSON");
    // `text` makes `//` of the `\\` that JSON has on Windows.
    assert_eq!(summary["output"].as_str().map(|output| output.replace("//", "/")).as_deref(), Some("out/thin.nii.gz"));
    let labels = summary["labels"].as_array().expect("labels");
    let names: Vec<_> = labels.iter().map(|label| (label["label"].as_u64(), label["name"].as_str())).collect();
    assert_eq!(names, [(Some(1), Some("liver")), (Some(2), Some("kidney")), (Some(3), Some("spleen"))]);
    let voxels = crate::labels(desk.path("out/thin.nii.gz"));
    for (label, entry) in (1_u16..).zip(labels) {
        let count = voxels.iter().filter(|v| **v == label).count();
        assert!(count > 0 && entry["voxels"] == count, "{entry}");
        // Voxels are 2 x 1.1 x 1.1 mm.
        let ml = entry["ml"].as_f64().expect("a number");
        assert!((ml - count as f64 * 2.42e-3).abs() < 1e-4, "{entry}");
    }
}

#[test]
fn statistics_are_those_of_the_label_maps() {
    let desk = desk();
    desk.succeed(&line("-i imagesTs/thin_0000.nii.gz --statistics t.csv"));
    // The table grows by a case; the other one is finished already.
    desk.succeed(&line("-i imagesTs --statistics t.csv"));
    let table = fs::read_to_string(desk.path("t.csv")).expect("read");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 7, "{table}");
    assert_eq!(rows[0][..6], ["case", "label", "name", "voxels", "ml", "mean_hu"]);
    let voxels = crate::labels(desk.path("out/thin.nii.gz"));
    let mut hu = Vec::new();
    let mut volume = Volume::open(scan("thin")).expect("a scan");
    let [height, width] = [volume.height(), volume.width()];
    (0..volume.slices()).for_each(|slice| hu.extend_from_slice(volume.read_slice(slice).expect("a slice").data()));
    for row in rows.iter().filter(|row| row[0].contains("thin")) {
        let label: u16 = row[1].parse().expect("a label");
        let own: Vec<usize> = (0..voxels.len()).filter(|i| voxels[*i] == label).collect();
        assert_eq!(row[3], own.len().to_string());
        let mean = own.iter().map(|i| f64::from(hu[*i])).sum::<f64>() / own.len() as f64;
        assert!((row[5].parse::<f64>().expect("a number") - mean).abs() < 1e-3, "{row:?}, not {mean}");
        // Voxels are 2 x 1.1 x 1.1 mm.
        let extent = |at: &dyn Fn(usize) -> usize, mm: f64| {
            let (first, last) = (own.iter().map(|i| at(*i)).min().expect("a voxel"), own.iter().map(|i| at(*i)).max().expect("a voxel"));
            (last + 1 - first) as f64 * mm
        };
        let want = [extent(&|i| i % width, 1.1), extent(&|i| i / width % height, 1.1), extent(&|i| i / width / height, 2.0)];
        for (text, want) in row[6..9].iter().zip(want) {
            assert!((text.parse::<f64>().expect("a number") - want).abs() < 1e-3, "{row:?}, not {want}");
        }
        let share: f64 = row[9].parse().expect("a number");
        assert!(share > 0.0 && share <= 1.0, "{row:?}");
    }
    // A table that lacks a case does not replace this one, and neither is another file replaced.
    fs::write(desk.path("notes.csv"), "name,remark\n").expect("written");
    for (flags, says) in [("t.csv", "the line '"), ("notes.csv", "notes.csv"), ("t.txt", "ending in .csv")] {
        let output = desk.run(&line(&format!("-i imagesTs/thick_0000.nii.gz --statistics {flags}")));
        let message = text(&output.stderr);
        assert!(!output.status.success(), "{flags}");
        assert!(message.contains(says) && fs::read_to_string(desk.path("t.csv")).expect("read") == table, "{message}");
    }
    desk.succeed(&line("-i imagesTs/thick_0000.nii.gz --statistics t.csv --overwrite"));
    assert_eq!(fs::read_to_string(desk.path("t.csv")).expect("read").lines().count(), 4);
}

/// A label that is a part of a region is called so, and a region counts all of its labels.
#[test]
fn regions_are_counted_beside_labels() {
    let desk = desk();
    crate::golden::with_regions(&crate::copied(&desk, MULTISCALE));
    let line = "segment -m model -f 0 --disable-tta -i imagesTs/thick_0000.nii.gz -o labels.nii.gz --backend cpu";
    let shown = desk.succeed(line);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let heads: Vec<String> = rows.iter().skip(2).map(|row| row[..row.len() - 2].join(" ")).collect();
    let labels = ["1 organ only", "2 core", "3 lesion only", "4 vessel"];
    let regions = ["region organ", "region lesion", "region vessel", "region core"];
    assert_eq!(heads, [&labels[..], &regions[..]].concat(), "{shown}");
    let voxels = crate::labels(desk.path("labels.nii.gz"));
    let count = |of: &[u16]| voxels.iter().filter(|label| of.contains(label)).count();
    let summary: Value = serde_json::from_str(&desk.succeed(&format!("{line} --json"))).expect("JSON");
    for (region, labels) in summary["regions"].as_array().expect("regions").iter().zip([&[1, 2, 3][..], &[2, 3], &[4], &[2]]) {
        assert_eq!(region["labels"], serde_json::json!(labels));
        assert_eq!(region["voxels"], count(labels), "{region}");
    }
}

/// Grand Challenge hands out `<uuid>.mha` and expects the same names back.
#[test]
fn folders_of_a_challenge_are_taken_as_they_are() {
    let desk = desk();
    let model = crate::copied(&desk, MULTISCALE);
    crate::edit(&model.join("dataset.json"), ".nii.gz", ".mha");
    let line = "segment -m model -f 0 --disable-tta --backend cpu";
    fs::create_dir_all(desk.path("input/images/ct")).expect("made");
    let name = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d.mha";
    // A label map of meddino's is no scan, so the comment that marks it goes.
    desk.succeed(&format!("{line} -i imagesTs/thin_0000.nii.gz -o scan.mha"));
    let marked = fs::read(desk.path("scan.mha")).expect("read");
    let at = marked.windows(10).position(|window| window == b"= meddino ").expect("a mark");
    let scan = [&marked[..at + 2], b"someone", &marked[at + 9..]].concat();
    fs::write(desk.path(&format!("input/images/ct/{name}")), &scan).expect("written");
    desk.succeed(&format!("{line} -i input/images/ct -o output/images/organs"));
    let labels = Volume::open(desk.path(&format!("output/images/organs/{name}"))).expect("labels");
    let scan = Volume::open(desk.path(&format!("input/images/ct/{name}"))).expect("a scan");
    assert_eq!(labels.affine(), scan.affine());
}

#[test]
fn a_case_that_fails_does_not_stop_the_others() {
    let desk = desk();
    fs::write(desk.path("imagesTs/broken_0000.nii.gz"), "no scan").expect("written");
    fs::copy(scan("thin"), desk.path("imagesTs/thin_0001.nii.gz")).expect("copied");
    let output = desk.run(&line("-i imagesTs"));
    let messages = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{messages}");
    assert!(messages.contains("2 of 4 cases failed"), "{messages}");
    assert!(messages.contains("is channel 0001 of the case thin"), "{messages}");
    assert_eq!(text(&output.stdout).lines().filter(|line| !line.starts_with(' ')).count(), 2);
    assert!(!desk.path("out/broken.nii.gz").exists() && desk.path("out/thin.nii.gz").exists());
    let hidden =
        fs::read_dir(desk.path("out")).expect("listed").any(|e| e.expect("an entry").file_name().to_string_lossy().starts_with('.'));
    assert!(!hidden, "a failed case leaves no file behind");
}

/// A label map that a user corrected is replaced only with --overwrite. Most programs keep the header's `descrip`, so
/// the test changes a voxel and not `descrip`.
#[test]
fn labels_that_were_corrected_by_hand_are_kept() {
    let desk = desk();
    let plain = |flags: &str| line(flags).replace("-o out", "-o one.nii");
    let text_header = |ending: &str| plain("-i imagesTs/thin_0000.nii.gz").replace("one.nii", &format!("one.{ending}"));
    let commands = [
        ("out/thin.nii.gz", line("-i imagesTs")),
        ("out/thin.nii.gz", line("-i imagesTs --shard 2/2")),
        ("one.nii", plain("-i imagesTs/thin_0000.nii.gz")),
        ("one.nrrd", text_header("nrrd")),
        ("one.mha", text_header("mha")),
    ];
    [0, 2, 3, 4].into_iter().for_each(|i| drop(desk.succeed(&commands[i].1)));
    let bytes = |name: &str| fs::read(desk.path(name)).expect("read");
    let before = commands.clone().map(|(name, _)| bytes(name));
    let correct = |name: &str| {
        let mut voxels = crate::geometry::inflated(&desk.path(name));
        let is_nifti = voxels[148..].starts_with(b"meddino ");
        assert!(is_nifti || String::from_utf8_lossy(&voxels[..64]).contains(" meddino "));
        *voxels.last_mut().expect("a voxel") ^= 1;
        let corrected = if name.starts_with("out/") { crate::nifti::gzip(&voxels) } else { voxels };
        fs::write(desk.path(name), &corrected).expect("written");
        corrected
    };
    for ((name, command), before) in commands.iter().zip(before) {
        let corrected = correct(name);
        for command in [command.clone(), format!("{command} --step-size 1")] {
            let output = desk.run(&command);
            let error = text(&output.stderr);
            assert!(
                !output.status.success() && error.contains(&format!("output {name}: is not as meddino wrote it")),
                "{command}: {error}"
            );
            assert!(bytes(name) == corrected, "{command}");
        }
        desk.succeed(&format!("{command} --overwrite"));
        assert!(bytes(name) == before, "{command}");
    }
}

#[test]
fn files_of_an_earlier_run_beside_the_labels_are_reported() {
    let desk = desk();
    let messages = |flags: &str| text(&desk.run(&line(&format!("-i imagesTs {flags}"))).stderr);
    assert!(!messages("--overlay --save-probabilities").contains("earlier run"));
    let expected = "out: 4 files of an earlier run with other settings are still here, such as out/thick.npz";
    let with_other_settings = messages("--step-size 1");
    assert!(with_other_settings.contains(expected), "{with_other_settings}");
}

#[test]
fn labels_may_be_written_into_the_results_folder_repeatedly() {
    let desk = desk();
    crate::copied(&desk, MULTISCALE);
    for flags in ["", "--step-size 1"] {
        desk.succeed(&format!("segment -m model -f 0 --disable-tta --backend cpu -i imagesTs/thin_0000.nii.gz -o model/labels {flags}"));
    }
    let error = text(&desk.run("segment -m model -f 0 --backend cpu -i imagesTs/thin_0000.nii.gz -o model/plans.json --overwrite").stderr);
    assert!(error.contains("is a file, but outputs need a folder"), "{error}");
}

#[test]
fn the_error_counts_all_labels_that_may_not_be_replaced() {
    let desk = desk();
    fs::create_dir(desk.path("out")).expect("made");
    for case in ["thin", "thick"] {
        fs::copy(scan(case), desk.path(&format!("out/{case}.nii.gz"))).expect("copied");
    }
    let error = text(&desk.run(&line("-i imagesTs")).stderr);
    assert!(
        error.contains("output out: 2 files in it may not be replaced; the first error: output out/thick.nii.gz: is there already"),
        "{error}"
    );
}

#[test]
fn scans_in_the_output_folder_are_skipped_with_a_warning() {
    let desk = desk();
    fs::create_dir(desk.path("imagesTs/out")).expect("made");
    fs::rename(desk.path("imagesTs/thick_0000.nii.gz"), desk.path("imagesTs/out/thick_0000.nii.gz")).expect("moved");
    let inside = line("-i imagesTs --json").replace("-o out", "-o imagesTs/out");
    // In the second run the folder also holds the outputs of the first, which are no scans.
    for _ in 0..2 {
        let output = desk.run(&inside);
        assert_eq!(text(&output.stdout).lines().count(), 1);
        let messages = text(&output.stderr);
        assert!(
            messages.contains("imagesTs: 1 scan is in the output folder and skipped, for example imagesTs/out/thick_0000.nii.gz"),
            "{messages}"
        );
    }
    fs::remove_file(desk.path("imagesTs/thin_0000.nii.gz")).expect("removed");
    let error = text(&desk.run(&inside).stderr);
    assert!(error.contains("there is no scan in this folder") && error.contains("1 file in the output folder"), "{error}");
}

#[test]
fn shards_share_the_cases() {
    let desk = desk();
    assert_eq!(desk.succeed(&line("-i imagesTs --json --shard 1/2")).lines().count(), 1);
    assert_eq!(desk.succeed(&line("-i imagesTs --json --shard 2/2")).lines().count(), 1);
    assert!(desk.path("out/thin.nii.gz").exists() && desk.path("out/thick.nii.gz").exists());
}

/// The picture shows the file's labels over the axial slice that has most of them, in radiological orientation, however
/// the scan is stored.
#[test]
fn an_overlay_shows_the_slice_with_most_labels() {
    let desk = desk();
    for case in ["thick", "thin"] {
        desk.succeed(&line(&format!("-i imagesTs/{case}_0000.nii.gz --overlay")));
        let file = std::io::BufReader::new(fs::File::open(desk.path(&format!("out/{case}.png"))).expect("a picture"));
        let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("small")];
        let info = reader.next_frame(&mut bytes).expect("a picture");
        let text = |keyword: &str| {
            let chunk = reader.info().utf8_text.iter().find(|chunk| chunk.keyword == keyword).expect("a text");
            serde_json::from_str::<Value>(&chunk.get_text().expect("UTF-8")).expect("JSON")
        };
        let mut volume = Volume::open(desk.path(&format!("out/{case}.nii.gz"))).and_then(|v| v.oriented(Orient::Lps)).expect("labels");
        let slices: Vec<_> = (0..volume.slices()).map(|i| volume.read_slice(i).expect("read").into_data()).collect();
        let count = |i: usize| slices[i].iter().filter(|label| **label > 0.0).count();
        let fullest = (0..slices.len()).rev().max_by_key(|&i| count(i)).expect("slices");
        assert_eq!(text("slices"), serde_json::json!([fullest]));
        assert_eq!(text("labels")[2], serde_json::json!({"label": 3, "name": "spleen"}));

        // The slice alone, with its longer side at 448 pixels, then a gap, then the same slice with labels.
        let (width, scale) = (volume.width(), 448.0 / volume.width() as f64);
        let pixel = |x: usize, y: usize| <[u8; 3]>::try_from(&bytes[(y * info.width as usize + x) * 3..][..3]).expect("three");
        for (i, label) in slices[fullest].iter().enumerate() {
            let place = |i: usize| ((i as f64 + 0.5) * scale) as usize;
            let (x, y) = (place(i % width), place(i / width));
            let (plain, over) = (pixel(x, y), pixel(448 + 8 + x, y));
            assert!(plain[0] == plain[1] && plain[1] == plain[2], "the CT is gray");
            let want = (*label as usize).checked_sub(1).map_or(plain, |label| {
                let colour = meddino::picture::distinct(label);
                [0, 1, 2].map(|k| f32::midpoint(f32::from(plain[k]), f32::from(colour[k])).round() as u8)
            });
            assert!((0..3).all(|k| over[k].abs_diff(want[k]) <= 1), "{case} {i}, label {label}: {over:?} for {want:?}");
        }
    }
}
