//! Real CT against nibabel and pydicom, to the last bit, and one head in many storage orders, whose features must be
//! equal.
//!
//! `MEDDINO_REAL_CT` is the folder that `real_ct/fetch.sh` fills. Without it the tests report that they did not run.
//! With `MEDDINO_REQUIRE_REAL_CT=1` they fail instead.
#![cfg(feature = "readers")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use meddino::Tensor;
use meddino::backbone::{Backbone, Choice};
use meddino::ct::{Orient, Size, Volume, Window, prepare};
use meddino::vit::config::ModelSize;
use meddino::vit::features::Request;
use meddino::vit::model::Model;

/// The folder of cases, if there is one.
fn cases() -> Option<PathBuf> {
    let folder = std::env::var_os("MEDDINO_REAL_CT").map(PathBuf::from).filter(|folder| folder.join("head").is_dir());
    if folder.is_none() {
        let problem = "MEDDINO_REAL_CT names no folder of cases; tests/real_ct/fetch.sh makes one";
        assert!(std::env::var_os("MEDDINO_REQUIRE_REAL_CT").is_none_or(|v| v != "1"), "MEDDINO_REQUIRE_REAL_CT=1, but {problem}");
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        // Written past the harness's capture, so that a skipped test does not look like a passed one.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {problem}");
    }
    folder
}

/// The scans in `folder` that have a reference beside them.
fn scans(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let references = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "npy"));
    let mut scans: Vec<PathBuf> = references.map(|path| path.with_extension("")).collect();
    scans.sort();
    scans
}

fn open(path: &Path, orient: Orient) -> Volume {
    Volume::open(path).and_then(|scan| scan.oriented(orient)).unwrap_or_else(|e| panic!("{e}"))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", path.display()))
}

/// Compares a scan with its reference. The error lists the differences.
fn compare(path: &Path) -> Result<(), String> {
    let mut scan = Volume::open(path).and_then(|scan| scan.oriented(Orient::Lps)).map_err(|e| e.to_string())?;
    let mut reference = open(&beside(path, "npy"), Orient::Stored);
    let shape = |volume: &Volume| [volume.slices(), volume.height(), volume.width()];
    if shape(&scan) != shape(&reference) {
        return Err(format!("shape {:?}, expected {:?}", shape(&scan), shape(&reference)));
    }
    for index in 0..scan.slices() {
        let (got, want) = (scan.read_slice(index).map_err(|e| e.to_string())?, reference.read_slice(index).expect("a reference"));
        let differing = got.data().iter().zip(want.data()).filter(|(got, want)| got.to_bits() != want.to_bits()).count();
        if differing > 0 {
            return Err(format!("slice {index}: {differing} pixels differ"));
        }
    }
    let expected = fs::read_to_string(beside(path, "json")).expect("a reference");
    let expected: serde_json::Value = serde_json::from_str(&expected).expect("JSON");
    let affine = scan.affine().ok_or("no affine")?;
    let near = |i: usize, j: usize| (affine.rows[i][j] - expected["affine"][i][j].as_f64().expect("a number")).abs() < 1e-5;
    if (0..12).all(|n| near(n / 4, n % 4)) { Ok(()) } else { Err(format!("affine {affine}, expected {}", expected["affine"])) }
}

#[test]
fn hu_and_affines_are_those_of_nibabel_and_pydicom() {
    let Some(folder) = cases() else { return };
    let scans = [scans(&folder.join("head")), scans(&folder.join("nifti"))].concat();
    assert!(scans.len() >= 20, "only {} scans", scans.len());
    let wrong: Vec<String> =
        scans.iter().filter_map(|path| compare(path).err().map(|problem| format!("{}: {problem}", path.display()))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// [B, 1, 64, 64] of three slices of the head.
fn images(path: &Path, orient: Orient) -> Tensor {
    let mut scan = open(path, orient);
    let image = |index| prepare(&scan.read_slice(index).expect("a slice"), &Window::DEMO, Size::Square(64)).data().to_vec();
    Tensor::new([3, 1, 64, 64], [70, 20, 100].into_iter().flat_map(image).collect())
}

#[test]
fn one_head_has_the_same_features_in_every_storage_order() {
    let Some(folder) = cases() else { return };
    let model = Model::seeded(0, ModelSize::Micro);
    let backbone = Backbone::new(&model, Choice::Cpu).expect("the CPU");
    let features = |images: &Tensor| {
        let x = backbone.features(images, None, &Request::default()).expect("features").x_norm;
        x.data().iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
    };
    let heads = scans(&folder.join("head"));
    assert!(heads.len() >= 5, "only {heads:?}");
    let want = features(&images(&folder.join("head/lps.nii.gz"), Orient::Lps));
    for head in &heads {
        assert!(features(&images(head, Orient::Lps)) == want, "{}: other features", head.display());
    }
    // As stored, the features differ, so the comparison can fail.
    assert!(features(&images(&folder.join("head/lpi.nii.gz"), Orient::Stored)) != want);
}
