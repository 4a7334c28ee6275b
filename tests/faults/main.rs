//! Failures outside the program: a disk that fails, a process that is killed. Inputs must stay unchanged, an output
//! must be complete or absent, and the same command run again must give the bytes of an undisturbed run.

#[cfg(target_os = "linux")]
mod calls;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/desk.rs"]
mod desk;
#[path = "../common/dicom.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod dicom;
mod kills;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use desk::{Desk, hu, text};
use meddino::archive::Listing;

/// Every command that writes files.
const COMMANDS: &[&str] = &[
    "features a.npy -c seeded:0:micro -o x.safetensors",
    "features dcm -c hf/model.safetensors -o x.npz",
    "features a.npy -c seeded:0:micro --pool cls -o x.npy",
    "features in --out-dir out -c seeded:0:micro",
    "pca a.npy -c seeded:0:micro --backend cpu --slices all --fit volume --save-basis b.safetensors -o p.png",
    "similarity a.npy --features f.safetensors --point 3,4 -o s.png",
    "segment -m model -f 0 --disable-tta --backend cpu -i scan.nii.gz -o l.nii.gz --save-probabilities --overlay",
    "segment -m model -f 0 --disable-tta --backend cpu -i images -o labels",
    "convert hf/model.safetensors -o c.safetensors",
];

/// A folder with every input of [`COMMANDS`].
fn desk() -> Desk {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(3, 32, 32));
    for folder in ["dcm", "in", "hf", "images"] {
        fs::create_dir(desk.path(folder)).expect("made");
    }
    for z in [0, 2, 4] {
        let mut slice = dicom::ct(f64::from(z));
        dicom::put_u16(&mut slice, dicom_dictionary_std::tags::ROWS, 32);
        dicom::put_u16(&mut slice, dicom_dictionary_std::tags::COLUMNS, 32);
        dicom::put_pixels(&mut slice, &(0..1024).map(|i| 1000 + i * 7 % 64 + z as u16).collect::<Vec<_>>());
        dicom::save(slice, &desk.path(&format!("dcm/{z}.dcm")));
    }
    desk.npy("in/b.npy", &hu(2, 32, 32));
    desk.npy("in/c.npy", &hu(1, 32, 48));
    for file in ["model.safetensors", "config.json"] {
        fs::copy(common::data(&format!("fixtures/micro/hf/{file}")), desk.path(&format!("hf/{file}"))).expect("copied");
    }
    let scan = common::data("fixtures/nnunet/imagesTs/thick_0000.nii.gz");
    fs::copy(&scan, desk.path("scan.nii.gz")).expect("copied");
    fs::copy(&scan, desk.path("images/thick_0000.nii.gz")).expect("copied");
    copy(&common::data("fixtures/nnunet/results/meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small"), &desk.path("model"));
    desk.succeed("features a.npy -c seeded:0:micro -o f.safetensors");
    desk
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for path in Listing::below(from).expect("listed").files {
        let target = to.join(path.strip_prefix(from).expect("below"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::copy(path, target).expect("copied");
    }
}

/// Every file below a folder, by its path there, with its bytes.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(desk: &Desk) -> Files {
    let root = desk.path("");
    let read = |path: PathBuf| (path.strip_prefix(&root).expect("below").to_path_buf(), fs::read(&path).expect("read"));
    Listing::below(&root).expect("listed").files.into_iter().map(read).collect()
}

/// Manifests are not compared, because they hold times and grow with each run.
fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("manifest"))
}

/// A command, its inputs, and the files after an undisturbed run.
struct Case {
    line: &'static str,
    inputs: Files,
    /// The inputs and the outputs.
    whole: Files,
}

impl Case {
    /// Runs `line` once on `desk`, keeps its outputs' bytes, and removes the outputs.
    fn new(desk: &Desk, line: &'static str) -> Self {
        let inputs = files(desk);
        desk.succeed(line);
        let whole = files(desk);
        assert!(whole.len() > inputs.len(), "{line} writes something");
        let case = Self { line, inputs, whole };
        case.clear(desk);
        case
    }

    /// Removes every file but the inputs.
    fn clear(&self, desk: &Desk) {
        for path in files(desk).keys().filter(|path| !self.inputs.contains_key(*path)) {
            fs::remove_file(desk.path(&path.display().to_string())).expect("removed");
        }
    }

    /// Checks the files after the disturbance `what`: inputs unchanged, outputs complete, and partial files only if
    /// `may_be_partial`.
    fn check_disturbed(&self, desk: &Desk, what: &str, may_be_partial: bool) {
        let now = files(desk);
        for (path, bytes) in &self.inputs {
            assert!(now.get(path) == Some(bytes), "{}: {what}: the input {} is not what it was", self.line, path.display());
        }
        for (path, bytes) in now.iter().filter(|(path, _)| !is_manifest(path)) {
            let is_partial = path.extension().is_some_and(|ending| ending == "partial");
            assert!(!is_partial || may_be_partial, "{}: {what}: {} is left", self.line, path.display());
            assert!(is_partial || self.whole.get(path) == Some(bytes), "{}: {what}: {} is not whole", self.line, path.display());
        }
    }

    /// Runs the command again undisturbed, and checks that its outputs equal those of the first undisturbed run.
    fn check_redone(&self, desk: &Desk, what: &str) {
        let output = desk.run(self.line);
        assert!(output.status.success(), "{}: after {what}: {}", self.line, text(&output.stderr));
        let now = files(desk);
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&self.whole), "{}: after {what}", self.line);
        for (path, bytes) in now.iter().filter(|(path, _)| !is_manifest(path)) {
            assert!(self.whole[path] == *bytes, "{}: after {what}: {} differs", self.line, path.display());
        }
    }
}
