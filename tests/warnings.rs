//! Warnings are logged through `log`, each once, with the module that found the problem as target.

use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};

use meddino::ct::{Orient, Volume};
use meddino::jobs::{Cohort, Observer};
use meddino::vit::config::ModelSize;
use meddino::vit::model::Model;

/// The records so far, as (level, module, text).
static LOGGED: Mutex<Vec<(Level, String, String)>> = Mutex::new(Vec::new());

struct Recorder;

impl Log for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("meddino")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            LOGGED.lock().unwrap().push((record.level(), record.target().to_owned(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Keeps the warnings of a job.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// Takes the records since the last call.
fn logged() -> Vec<(Level, String, String)> {
    std::mem::take(&mut LOGGED.lock().unwrap())
}

/// An oblique NIfTI file of two voxels, with three extra bytes at its end.
fn nifti() -> Vec<u8> {
    let mut file = vec![0; 352 + 8 + 3];
    file[0..4].copy_from_slice(&348_i32.to_le_bytes());
    for (axis, length) in [3_i16, 2, 1, 1, 1, 1, 1, 1].into_iter().enumerate() {
        file[40 + 2 * axis..][..2].copy_from_slice(&length.to_le_bytes());
        file[76 + 4 * axis..][..4].copy_from_slice(&1_f32.to_le_bytes());
    }
    file[70..72].copy_from_slice(&16_i16.to_le_bytes());
    file[72..74].copy_from_slice(&32_i16.to_le_bytes());
    file[108..112].copy_from_slice(&352_f32.to_le_bytes());
    file[112..116].copy_from_slice(&1_f32.to_le_bytes());
    file[254..256].copy_from_slice(&1_i16.to_le_bytes());
    let oblique = [[0.866_f32, -0.5, 0.0, 0.0], [0.5, 0.866, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
    for (i, value) in oblique.as_flattened().iter().enumerate() {
        file[280 + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
    }
    file[344..348].copy_from_slice(b"n+1\0");
    file
}

/// One test, because a process has one logger.
#[test]
fn each_warning_is_logged_once() {
    log::set_logger(&Recorder).expect("no other logger");
    log::set_max_level(LevelFilter::Trace);
    let expected = |module: &str, source: &str, warnings: &[String]| -> Vec<_> {
        warnings.iter().map(|text| (Level::Warn, module.to_owned(), format!("{source}: {text}"))).collect()
    };

    let model = Model::seeded(0, ModelSize::Micro);
    assert!(!model.warnings().is_empty());
    assert_eq!(logged(), expected("meddino::checkpoint", "seeded:0", model.warnings()));

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.nii");
    std::fs::write(&path, nifti()).expect("a file");
    let volume = Volume::open(&path).expect("a scan");
    assert!(volume.warnings().iter().any(|text| text.starts_with("3 bytes follow")), "{:?}", volume.warnings());
    assert_eq!(logged(), expected("meddino::ct::volume", &path.display().to_string(), volume.warnings()));

    let count = volume.warnings().len();
    let turned = volume.oriented(Orient::Lps).expect("axes");
    assert!(turned.warnings().len() > count, "{:?}", turned.warnings());
    assert_eq!(logged(), expected("meddino::ct::volume", &path.display().to_string(), &turned.warnings()[count..]));

    // A job's own warnings reach its observer as well.
    std::fs::write(folder.path().join("notes.txt"), "no scan").expect("a file");
    let observer = Told::default();
    let cases = Cohort::new([folder.path()]).cases(&folder.path().join("out"), |name| name, &observer).expect("cases");
    let told = observer.0.into_inner().unwrap();
    assert_eq!((cases.len(), told.len()), (1, 1), "{told:?}");
    assert_eq!(logged(), [(Level::Warn, "meddino::jobs::observer".to_owned(), told[0].clone())]);
}
