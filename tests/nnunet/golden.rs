//! Labels and probabilities of whole scans against those of `golden/nnunet.py`, which was compared with nnU-Net's own
//! code.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::common::{data, max_abs, read_safetensors};
use crate::desk::Desk;
use crate::device;
use crate::{BIASED, MULTISCALE, SINGLE, copied, edit, labels, results, scan};

/// The labels of a golden, and the voxels whose two best classes nearly tie.
struct Golden {
    labels: Vec<u16>,
    ties: Vec<bool>,
}

fn golden(run: &str) -> Golden {
    let coded = labels(data(&format!("fixtures/nnunet/expected/{run}.nii.gz")));
    Golden { labels: coded.iter().map(|code| code % 128).collect(), ties: coded.iter().map(|code| *code >= 128).collect() }
}

/// The shape of `probabilities` [K, S, H, W] of an `.npz`, and its values.
fn probabilities(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let mut zip = zip::ZipArchive::new(File::open(path).expect("a file")).expect("a zip");
    let mut bytes = Vec::new();
    zip.by_name("probabilities.npy").expect("an entry").read_to_end(&mut bytes).expect("read");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).to_string();
    assert!(text.contains("'<f4'") && text.contains("'fortran_order': False"), "{text}");
    let shape = text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("a shape").0;
    let shape = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    (shape, bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect())
}

/// The values at every 4th row and column.
fn thinned(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let (height, width) = (shape[2], shape[3]);
    let rows = values.chunks_exact(width).enumerate().filter(|(i, _)| i % height % 4 == 0);
    rows.flat_map(|(_, row)| row.iter().step_by(4).copied()).collect()
}

/// Checks a run on the CPU and on a GPU. Without a GPU, that part is reported as skipped, or fails if
/// `MEDDINO_REQUIRE_GPU=1`.
fn check(run: &str, model: &Path, case: &str, flags: &str) {
    let backends = if device::context().is_some() { &["cpu", "gpu"][..] } else { &["cpu"] };
    backends.iter().for_each(|backend| check_on(backend, run, model, case, flags));
}

fn check_on(backend: &str, run: &str, model: &Path, case: &str, flags: &str) {
    let desk = Desk::new();
    desk.succeed(&format!(
        "segment -m {} -i {} -o out --backend {backend} --save-probabilities {flags}",
        model.display(),
        scan(case).display()
    ));
    let labels = labels(desk.path(&format!("out/{case}.nii.gz")));
    let golden = golden(run);
    assert_eq!(labels.len(), golden.labels.len());
    let near = golden.ties.iter().filter(|tie| **tie).count();
    assert!(near * 50 < labels.len(), "{run}: {near} near ties of {} voxels decide little", labels.len());
    let wrong: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] != golden.labels[i]).collect();
    let clear = wrong.iter().filter(|i| !golden.ties[**i]).count();
    assert_eq!(clear, 0, "{run}: voxels that are no near ties, of {}", labels.len());
    for class in 0..5_u16 {
        let count = |labels: &[u16]| labels.iter().filter(|label| **label == class).count();
        let (got, want) = (count(&labels), count(&golden.labels));
        let both = labels.iter().zip(&golden.labels).filter(|(got, want)| **got == class && **want == class).count();
        let dice = 2.0 * both as f64 / (got + want) as f64;
        assert!(want <= 1000 || dice >= 0.999, "{run}: Dice {dice} of class {class}");
    }
    let (shape, got) = probabilities(&desk.path(&format!("out/{case}.npz")));
    let (_, want) = &read_safetensors(&data(&format!("fixtures/nnunet/expected/{run}.safetensors"))).0[0];
    let got = thinned(&shape, &got);
    assert_eq!(got.len(), want.data().len(), "{run}: {shape:?}");
    let apart = max_abs(&got, want.data());
    println!("{run} on {backend}: {} of {} voxels differ, {near} near ties; probabilities within {apart:.1e}", wrong.len(), labels.len());
    assert!(apart <= 1e-3, "{run} on {backend}: probabilities {apart:e} apart");
}

#[test]
fn thick_slices_in_overlapping_tiles_with_mirroring() {
    check("thick", &results(MULTISCALE), "thick", "-f 0");
}

#[test]
fn without_mirroring() {
    check("thick_plain", &results(MULTISCALE), "thick", "-f 0 --disable-tta --batch 3");
}

#[test]
fn the_mean_of_two_folds() {
    check("thick_folds", &results(MULTISCALE), "thick", "-f 0 1");
    // The default is every fold in the folder.
    check("thick_folds", &results(MULTISCALE), "thick", "--batch 1");
}

#[test]
fn an_oblique_scan_smaller_than_a_tile() {
    check("thin", &results(MULTISCALE), "thin", "-f 0");
}

#[test]
fn a_network_with_a_qkv_bias_and_no_storage_tokens() {
    check("thick_biased", &results(BIASED), "thick", "");
}

#[test]
fn a_network_of_a_single_scale() {
    check("thin_single", &results(SINGLE), "thin", "");
}

#[test]
fn plans_that_transpose() {
    let desk = Desk::new();
    let model = copied(&desk, MULTISCALE);
    let plans = model.join("plans.json");
    for key in ["transpose_forward", "transpose_backward"] {
        edit(&plans, &format!("\"{key}\": [\n  0,\n  1,\n  2\n ]"), &format!("\"{key}\": [1, 0, 2]"));
    }
    check("coronal", &model, "coronal", "-f 0");
    edit(&plans, "\"SimpleITKIO\"", "\"NibabelIOWithReorient\"");
    check("turned_coronal", &model, "coronal", "-f 0 --disable-tta");
}

/// The scan is tilted, and its thick slices are stored as columns.
#[test]
fn readers_that_reorient() {
    for reader in ["NibabelIOWithReorient", "SimpleITKIOWithReorient"] {
        let desk = Desk::new();
        let model = copied(&desk, MULTISCALE);
        edit(&model.join("plans.json"), "SimpleITKIO", reader);
        check("turned", &model, "turned", "-f 0 --disable-tta");
    }
}

#[test]
fn thick_rows_and_thick_columns() {
    check("rows", &results(MULTISCALE), "rows", "-f 0 --disable-tta");
    check("columns", &results(MULTISCALE), "columns", "-f 0 --disable-tta");
}

/// Replaces the labels of a results folder by regions, which overlap. One is a plain number, one a list of one.
pub fn with_regions(model: &Path) {
    let labels =
        r#""organ": [1, 2, 3], "lesion": [3, 2], "vessel": 4, "core": [2]}, "regions_class_order": [1, 3, 4, 2], "others": {"x": 3"#;
    edit(&model.join("dataset.json"), "\"liver\": 1,\n  \"kidney\": 2,\n  \"spleen\": 3", labels);
}

#[test]
fn regions_that_overlap() {
    let desk = Desk::new();
    let model = copied(&desk, MULTISCALE);
    with_regions(&model);
    check("regions", &model, "thick", "-f 0 --disable-tta");
}

/// Labels of regions may be any numbers. From 255 on, voxels take two bytes.
#[test]
fn regions_whose_labels_exceed_a_byte() {
    let desk = Desk::new();
    let model = copied(&desk, MULTISCALE);
    with_regions(&model);
    let run = |output: &str| {
        desk.succeed(&format!("segment -m model -i {} -o {output} --backend cpu -f 0 --disable-tta", scan("thick").display()));
        labels(desk.path(output))
    };
    let few = run("few.nii");
    let header = |name: &str| std::fs::read(desk.path(name)).expect("labels")[70..74].to_vec();
    assert_eq!(header("few.nii"), [2, 0, 8, 0], "uint8");
    for (order, names) in [([1, 255, 40_000, 2], "far"), ([1, 254, 3, 2], "near")] {
        edit(&model.join("dataset.json"), "[1, 3, 4, 2]", &format!("{order:?}"));
        let want: Vec<u16> = few.iter().map(|label| if *label == 0 { 0 } else { order[[0, 3, 1, 2][usize::from(*label) - 1]] }).collect();
        assert!(order.iter().all(|label| want.contains(label)), "{names}: each region is somewhere");
        for ending in ["nii", "nii.gz", "nrrd", "mha"] {
            assert!(run(&format!("{names}.{ending}")) == want, "{names}.{ending}");
        }
        edit(&model.join("dataset.json"), &format!("{order:?}"), "[1, 3, 4, 2]");
    }
    assert_eq!(header("far.nii"), [0, 2, 16, 0], "uint16");
    assert_eq!(header("near.nii"), [2, 0, 8, 0], "uint8");
}
