//! HU and geometry of real DICOM files against pydicom and SimpleITK, exactly.
//!
//! `MEDDINO_REAL_CT` is the folder that `real_ct/compare_dicom.py` wrote. Without it nothing is tested, and said; with `MEDDINO_REQUIRE_REAL_CT=1`
//! that is a failure.
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

/// [S, H, W] f32 of a `.npy` file.
fn reference(path: &Path) -> Vec<Vec<f32>> {
    let mut volume = Volume::open(path).expect("a reference");
    (0..volume.slices()).map(|i| volume.read_slice(i).expect("a slice").data().to_vec()).collect()
}

/// What is different, if anything is.
fn compare(folder: &Path, name: &str) -> Result<String, String> {
    let expected: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join(format!("{name}.json"))).expect("read")).expect("JSON");
    let reference = reference(&folder.join(format!("{name}.npy")));
    let mut scan = Volume::open_series(folder.join(name), expected["series"].as_str()).map_err(|e| e.to_string())?;
    if scan.slices() != reference.len() {
        return Err(format!("{} slices in place of {}", scan.slices(), reference.len()));
    }
    // Backwards, so that no order of reading is taken for granted.
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
    let affine = scan.affine().ok_or("no affine")?;
    for (i, row) in affine.rows.iter().enumerate() {
        for (j, &got) in row.iter().enumerate() {
            let want = expected["affine"][i][j].as_f64().expect("a number");
            if (got - want).abs() > 1e-5 {
                return Err(format!("affine [{i}, {j}] is {got}, expected {want}: {affine} against {}", expected["affine"]));
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
                eprintln!("{name}: refused without the feature jpeg-ls")
            }
            Ok(found) if !needs_feature => eprintln!("{name}: {found}"),
            found => wrong.push(format!("{name}: {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
