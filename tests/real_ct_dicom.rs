//! HU and geometry of real DICOM files against pydicom and SimpleITK, exactly.
//!
//! `MEDDINO_REAL_CT` is the folder that `real_ct/compare_dicom.py` fills. Without it the tests report that they did not
//! run. With `MEDDINO_REQUIRE_REAL_CT=1` they fail instead.
#![cfg(feature = "readers")]

use std::fs;
use std::path::{Path, PathBuf};

use meddino::ct::Volume;

/// The folder of cases, if there is one.
fn cases() -> Option<PathBuf> {
    let folder = std::env::var_os("MEDDINO_REAL_CT").map(|folder| PathBuf::from(folder).join("dicom"));
    let folder = folder.filter(|folder| folder.is_dir());
    if folder.is_none() {
        assert!(std::env::var_os("MEDDINO_REQUIRE_REAL_CT").is_none(), "MEDDINO_REAL_CT has no folder dicom: run real_ct/compare_dicom.py");
        eprintln!("NOT TESTED: MEDDINO_REAL_CT has no folder dicom");
    }
    folder
}

/// The slices of a `.npy` file [S, H, W] of f32.
fn reference(path: &Path) -> Vec<Vec<f32>> {
    let mut volume = Volume::open(path).expect("a reference");
    (0..volume.slices()).map(|i| volume.read_slice(i).expect("a slice").data().to_vec()).collect()
}

/// Compares a case with its reference. The error lists the differences.
fn compare(folder: &Path, name: &str) -> Result<String, String> {
    let expected: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join(format!("{name}.json"))).expect("read")).expect("JSON");
    let reference = reference(&folder.join(format!("{name}.npy")));
    let mut scan = Volume::open_series(folder.join(name), expected["series"].as_str()).map_err(|e| e.to_string())?;
    if scan.slices() != reference.len() {
        return Err(format!("{} slices in place of {}", scan.slices(), reference.len()));
    }
    // Slices are read backwards, so that the test does not depend on one order.
    let (mut differing, mut worst) = (0, 0.0_f32);
    for (index, expected) in reference.iter().enumerate().rev() {
        let slice = scan.read_slice(index).map_err(|e| e.to_string())?;
        for (got, want) in slice.data().iter().zip(expected) {
            differing += usize::from(got.to_bits() != want.to_bits());
            worst = worst.max((got - want).abs());
        }
        assert_eq!(slice.data().len(), expected.len(), "{name}");
    }
    if differing > 0 {
        return Err(format!("{differing} pixels differ, by up to {worst} HU"));
    }
    if scan.affine().is_none() != expected["affine"].is_null() {
        return Err(format!("affine {:?}, expected {}", scan.affine(), expected["affine"]));
    }
    for (i, row) in scan.affine().map_or([[0.0; 4]; 3], |affine| affine.rows).iter().enumerate().filter(|_| scan.affine().is_some()) {
        for (j, &got) in row.iter().enumerate() {
            let want = expected["affine"][i][j].as_f64().expect("a number");
            if (got - want).abs() > 1e-5 {
                return Err(format!("affine [{i}, {j}] is {got}, expected {want}, of {}", expected["affine"]));
            }
        }
    }
    Ok(format!("{} slices; {:?}", reference.len(), scan.warnings()))
}

#[test]
fn hu_and_geometry_are_those_of_pydicom_and_simpleitk() {
    let Some(folder) = cases() else { return };
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("a folder")
        .filter_map(|entry| entry.expect("an entry").file_name().to_string_lossy().strip_suffix(".npy").map(str::to_string))
        .collect();
    names.sort();
    assert!(names.len() >= 30, "only {} cases", names.len());
    let mut wrong = Vec::new();
    for name in names {
        let needs_feature = name.contains("jpeg_ls") && !cfg!(feature = "jpeg-ls");
        match compare(&folder, &name) {
            Err(problem) if needs_feature && problem.contains("feature jpeg-ls") => {
                eprintln!("{name}: refused without the feature jpeg-ls");
            }
            Ok(found) if !needs_feature => eprintln!("{name}: {found}"),
            found => wrong.push(format!("{name}: {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bytes of each file are changed at random, in its header and in its encoded pixels. Reading gives an error or values,
/// and no panic escapes. `MEDDINO_FUZZ` is the number of changes for each file.
#[test]
fn damage_is_an_error() {
    let Some(folder) = cases() else { return };
    let rounds = std::env::var("MEDDINO_FUZZ").map_or(8, |n| n.parse().expect("MEDDINO_FUZZ is a number"));
    let scratch = tempfile::tempdir().expect("a folder");
    let path = scratch.path().join("fuzzed");
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "dcm"));
    files.sort();
    let mut outcomes = [0; 2];
    for file in &files {
        let original = fs::read(file).expect("read");
        // Codec headers come after the DICOM header, and are changed as often as any other part.
        let pixels = original
            .windows(4)
            .rposition(|tag| [[0xE0, 0x7F, 0x10, 0x00], [0x7F, 0xE0, 0x00, 0x10]].iter().any(|pixels| tag == pixels))
            .expect("pixel data");
        for _ in 0..rounds {
            let mut bytes = original.clone();
            let from = [132, pixels, pixels][random(3)];
            let to = [bytes.len(), bytes.len().min(from + 400)][random(2)];
            for _ in 0..=random(4) {
                let at = from + random(to - from);
                bytes[at] = [random(256) as u8, 0, 0xFF, bytes[at] ^ 1][random(4)];
            }
            if random(8) == 0 {
                bytes.truncate(from + random(bytes.len() - from));
            }
            fs::write(&path, bytes).expect("written");
            let read = Volume::open(&path).and_then(|mut scan| (0..scan.slices()).try_for_each(|i| scan.read_slice(i).map(drop)));
            outcomes[usize::from(read.is_ok())] += 1;
        }
    }
    eprintln!("{} files: {} errors, {} read", files.len(), outcomes[0], outcomes[1]);
    assert!(outcomes.iter().all(|&n| n > 0));
}
