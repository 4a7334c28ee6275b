//! `meddino segment` and its parts against `golden/nnunet.py`, an implementation of nnU-Net's method, on the small
//! networks of `fixtures/nnunet`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/desk.rs"]
mod desk;
#[path = "../device/mod.rs"]
mod device;
#[path = "../common/dicom.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod dicom;
mod folder;
mod geometry;
mod golden;
mod many;
mod memory;
#[cfg(target_os = "linux")]
mod names;
#[path = "../nifti/file.rs"]
#[allow(dead_code, reason = "of the file's helpers, those that write are used here")]
mod nifti;
mod prepared;
mod reorient;
mod scans;
mod seg;

use std::fs;
use std::path::{Path, PathBuf};

use desk::Desk;
use meddino::ct::Volume;

const MULTISCALE: &str = "meddinov3_base_primus_multiscale_Trainer";
const BIASED: &str = "dinov3_base_primus_multiscale_Trainer";
const SINGLE: &str = "dinov3_base_primus_Trainer";

/// The results folder of a trainer.
pub fn results(trainer: &str) -> PathBuf {
    common::data(&format!("fixtures/nnunet/results/{trainer}__nnUNetPlans__2d_small"))
}

/// A scan of the fixtures.
pub fn scan(case: &str) -> PathBuf {
    common::data(&format!("fixtures/nnunet/imagesTs/{case}_0000.nii.gz"))
}

/// A copy of [`results`] at `model` on `desk`, which the test may change.
pub fn copied(desk: &Desk, trainer: &str) -> PathBuf {
    let target = desk.path("model");
    copy(&results(trainer), &target);
    target
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::write(&target, fs::read(&path).expect("read")).expect("written");
        }
    }
}

/// Replaces `from`, which must occur, in a text file.
pub fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a text");
    assert!(text.contains(from), "{}: {from}", path.display());
    fs::write(path, text.replace(from, to)).expect("written");
}

/// The labels of a file, slice by slice.
pub fn labels(path: impl AsRef<Path>) -> Vec<u16> {
    let path = path.as_ref();
    let values = nifti::read(&mut Volume::open(path).unwrap_or_else(|e| panic!("{e}")));
    assert!(values.iter().all(|v| v.fract() == 0.0 && *v >= 0.0), "{}: whole numbers", path.display());
    values.into_iter().map(|v| v as u16).collect()
}
