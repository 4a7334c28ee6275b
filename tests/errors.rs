//! An error keeps the system's error that caused it, and says it once.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use meddino::Result;
use meddino::archive::{ArchiveWriter, Dtype, TensorHeader};
use meddino::ct::{Images, Volume};
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
