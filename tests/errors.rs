//! An error keeps the system's error that caused it, and says it once.

#[path = "common/dicom.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod dicom;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meddino::Result;
use meddino::archive::{ArchiveWriter, Dtype, TensorHeader};
use meddino::checkpoint::Checkpoint;
use meddino::ct::{Affine, Geometry, Images, PatientAxes, SliceReader, Volume, series};
use meddino::error::Problem;
use meddino::maps::BasisFile;
use meddino::output::StoredFeatures;
use meddino::vit::model::Model;

/// The kind of the system's error behind the one of `done`, whose text says the cause once.
fn kind<T>(done: Result<T>) -> Option<ErrorKind> {
    let error = done.err().expect("an error");
    let (text, cause) = (error.to_string(), error.source().expect("a cause").to_string());
    assert_eq!(text.matches(&cause).count(), 1, "{text} should say {cause} once");
    error.io_kind()
}

#[test]
fn a_missing_file_is_told_from_a_damaged_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = |name: &str| folder.path().join("missing").join(name);
    for name in ["a.npy", "a.nii", "a.nii.gz", "a.hdr", "a.dcm"] {
        assert_eq!(kind(Volume::open(missing(name))), Some(ErrorKind::NotFound), "{name}");
    }
    for name in ["a.pth", "a.safetensors", "model.safetensors.index.json"] {
        assert_eq!(kind(Model::open(missing(name))), Some(ErrorKind::NotFound), "{name}");
    }
    assert_eq!(kind(Images::open(missing("a.safetensors"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(StoredFeatures::open(missing("a.safetensors"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(BasisFile::open(&missing("a.safetensors"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(series(missing("series"))), Some(ErrorKind::NotFound));

    let damaged = folder.path().join("damaged.npy");
    std::fs::write(&damaged, b"no array").expect("a file");
    assert_eq!(Volume::open(&damaged).map(drop).expect_err("damaged").io_kind(), None);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_from_a_name_that_is_taken() {
    let write = |target: &Path| {
        let tensors = [("x".to_owned(), TensorHeader { shape: vec![1 << 16], dtype: Dtype::F32 })];
        let mut file = ArchiveWriter::create(target, &tensors, &BTreeMap::new())?;
        file.write(0, 0, &vec![1.0; 1 << 16])?;
        file.finish()
    };
    assert_eq!(kind(write(Path::new("/dev/full"))), Some(ErrorKind::StorageFull));
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(write(folder.path()).expect_err("a folder").io_kind(), None);
}

/// Every read of `/proc/self/mem` at its start fails with an I/O error, even for root.
#[test]
#[cfg(target_os = "linux")]
fn a_dicom_file_that_cannot_be_read_is_named_with_its_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink("/proc/self/mem", at("IM2")).expect("linked");
    let check = |done: Result<()>| {
        let error = done.expect_err("one file cannot be read");
        assert!(error.to_string().contains("IM2: it cannot be read (Input/output error"), "{error}");
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).expect("an I/O error");
        assert_eq!(cause.raw_os_error(), Some(5));
    };
    check(series(folder.path()).map(drop));
    dicom::save(dicom::ct(1.0), &at("IM1"));
    dicom::save(dicom::ct(3.0), &at("IM3"));
    check(Volume::open(folder.path()).map(drop));
}

#[test]
fn a_slice_that_cannot_be_read_has_a_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    dicom::save(dicom::ct(1.0), &at("a.dcm"));
    let mut scan = Volume::open(at("a.dcm")).expect("opened");
    fs::remove_file(at("a.dcm")).expect("removed");
    assert_eq!(kind(scan.read_slice(0)), Some(ErrorKind::NotFound));

    for (name, source) in [("a.npy", "golden/npy/le_f4_C_3d.npy"), ("a.nii", "")] {
        if source.is_empty() {
            fs::write(at(name), nifti()).expect("written");
        } else {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source), at(name)).expect("copied");
        }
        let mut scan = Volume::open(at(name)).expect("opened");
        let file = File::options().write(true).open(at(name)).expect("opened");
        file.set_len(file.metadata().expect("metadata").len() - 1).expect("cut");
        assert_eq!(kind(scan.read_slice(scan.slices() - 1)), Some(ErrorKind::UnexpectedEof), "{name}");
    }
}

/// A NIfTI-1 file of 2 x 2 x 2 values of f32.
fn nifti() -> Vec<u8> {
    let mut bytes = vec![0; 352 + 32];
    bytes[..4].copy_from_slice(&348_i32.to_le_bytes());
    for (at, value) in [(40, 3_i16), (42, 2), (44, 2), (46, 2), (48, 1), (70, 16), (72, 32), (254, 1)] {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    for (at, value) in [(76, 1.0_f32), (80, 1.0), (84, 1.0), (88, 1.0), (108, 352.0), (112, 1.0), (280, 1.0), (300, 1.0), (320, 1.0)] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes[344..348].copy_from_slice(b"n+1\0");
    bytes
}

/// A program's own storage, which refuses every slice.
struct Refusing;

impl SliceReader for Refusing {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let refused: io::Result<Vec<f32>> = Err(ErrorKind::PermissionDenied.into());
        refused.map_err(|e| Problem::from(e).within(format_args!("slice {index}")))
    }
}

#[test]
fn the_cause_of_a_programs_own_storage_is_kept() {
    let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let affine = Affine::new(PatientAxes::Lps, [1.0; 3], [0.0; 3], identity).expect("an affine");
    let geometry = Geometry::new([2, 2, 2], affine).expect("a geometry");
    assert_eq!(kind(Volume::from_slices("storage", Refusing, &geometry).read_slice(1)), Some(ErrorKind::PermissionDenied));
}

/// Bytes whose reader fails once `fails` is set, as a network share does that goes away.
struct Share {
    bytes: Cursor<Vec<u8>>,
    fails: Arc<AtomicBool>,
}

impl Read for Share {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fails.load(Ordering::Relaxed) { Err(ErrorKind::NotConnected.into()) } else { self.bytes.read(buffer) }
    }
}

impl Seek for Share {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

#[test]
fn a_checkpoint_that_fails_between_two_tensors_has_a_cause() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/micro").join(name);
    let (bytes, fails) = (fs::read(fixture("flat.safetensors")).expect("a fixture"), Arc::new(AtomicBool::new(false)));
    let share = Share { bytes: Cursor::new(bytes), fails: fails.clone() };
    let checkpoint = Checkpoint::from_reader("a share", share).expect("opened");
    checkpoint.load("norm.weight").expect("read");
    fails.store(true, Ordering::Relaxed);
    assert_eq!(kind(checkpoint.load("norm.weight")), Some(ErrorKind::NotConnected));
    assert_eq!(kind(checkpoint.sha256()), Some(ErrorKind::NotConnected));

    let folder = tempfile::tempdir().expect("a folder");
    for name in ["flat.pth", "legacy.pth"] {
        let path = folder.path().join(name);
        fs::copy(fixture(name), &path).expect("copied");
        let checkpoint = Checkpoint::open(&path).expect("opened");
        File::options().write(true).open(&path).and_then(|file| file.set_len(64)).expect("cut");
        assert_eq!(kind(checkpoint.load("norm.weight")), Some(ErrorKind::UnexpectedEof), "{name}");
        fs::remove_file(&path).expect("removed");
        assert_eq!(kind(checkpoint.sha256()), Some(ErrorKind::NotFound), "{name}");
    }
}
