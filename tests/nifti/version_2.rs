//! NIfTI-2: files of nibabel (`tests/fixtures/make_nifti_2.py`), and label maps of NIfTI-2 scans.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use meddino::ct::{Affine, Geometry, PatientAxes, Turn, Volume};
use meddino::output::{LabelFile, is_ours};

use super::file::{Folder, read};

/// Affine and sizes of nibabel's files. An f32 holds none of the fractions.
const ROWS: [[f64; 4]; 3] = [[-0.7, 0.1, 0.0, 90.1], [0.1, 0.7, 0.0, -120.3], [0.0, 0.0, 2.3, 1000.7]];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nifti_2").join(name)
}

fn inflated(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(path).expect("a fixture")).read_to_end(&mut bytes).expect("gzip");
    bytes
}

/// The values that nibabel wrote, less `base`.
fn numbered(base: f32) -> Vec<f32> {
    (0..24).map(|n| (100 * (n / 12) + 10 * (n / 4 % 3) + n % 4) as f32 - base).collect()
}

#[test]
fn every_type_and_byte_order_of_nibabel_compressed_and_plain() {
    let folder = Folder::new();
    for dtype in ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"] {
        for order in ["little", "big"] {
            let compressed = fixture(&format!("{dtype}_{order}.nii.gz"));
            let plain = folder.write("plain.nii", &inflated(&compressed));
            for path in [compressed, plain] {
                let mut scan = Volume::open(&path).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!([scan.slices(), scan.height(), scan.width()], [2, 3, 4], "{dtype} {order}");
                assert_eq!(read(&mut scan), numbered(if dtype.starts_with('u') { 0.0 } else { 20.0 }), "{dtype} {order}");
                assert_eq!(scan.affine().expect("an affine").rows, ROWS, "{dtype} {order}");
                let side = (0.7_f64 * 0.7 + 0.1 * 0.1).sqrt();
                assert_eq!(scan.geometry().expect("a place").spacing(), [2.3, side, side], "{dtype} {order}");
                assert!(scan.warnings().is_empty(), "{dtype} {order}: {:?}", scan.warnings());
                assert_eq!(scan.about(), [("format", "NIfTI-2".to_owned()), ("affine_from", "sform".to_owned())]);
            }
        }
    }
}

#[test]
fn a_pair_is_read_by_either_name_and_a_qform_in_f64() {
    let folder = Folder::new();
    for name in ["pair.hdr", "pair.img"] {
        folder.write(name, &inflated(&fixture(&format!("{name}.gz"))));
    }
    for path in [fixture("pair.hdr.gz"), fixture("pair.img.gz"), folder.path().join("pair.hdr"), folder.path().join("pair.img")] {
        let mut scan = Volume::open(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((read(&mut scan), scan.affine().expect("an affine").rows), (numbered(20.0), ROWS), "{}", path.display());
    }
    let scan = Volume::open(fixture("qform.nii.gz")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(scan.about()[1], ("affine_from", "qform".to_owned()));
    for (got, want) in scan.affine().expect("an affine").rows.iter().flatten().zip(ROWS.as_flattened()) {
        assert!((got - want).abs() < 1e-14, "{got}, expected {want}");
    }
}

/// Writes labels 0, 1, 2, 0, ... in the grid of `geometry`, and reads them again.
fn label_map(folder: &Folder, name: &str, geometry: &Geometry) -> (Volume, PathBuf) {
    let path = folder.path().join(name);
    let mut file = LabelFile::create(&path, geometry, 3, Turn::NONE).expect("created");
    let [slices, height, width] = geometry.shape();
    for slice in 0..slices {
        let labels: Vec<u16> = (0..height * width).map(|pixel| ((slice + pixel) % 3) as u16).collect();
        file.push(&labels).expect("written");
    }
    file.finish().expect("complete");
    let mut labels = Volume::open(&path).unwrap_or_else(|e| panic!("{e}"));
    for slice in (0..slices).rev().step_by(slices / 2) {
        let expected: Vec<f32> = (0..height * width).map(|pixel| ((slice + pixel) % 3) as f32).collect();
        assert_eq!(labels.read_slice(slice).expect("a slice").data(), expected, "{name}, slice {slice}");
    }
    assert!(is_ours(&path), "{name}");
    (labels, path)
}

/// nnU-Net writes NIfTI-1 as well, and SimpleITK opens nothing else.
#[test]
fn labels_of_a_nifti_2_scan_are_nifti_1_with_rounded_numbers() {
    let folder = Folder::new();
    let geometry = Volume::open(fixture("i2_big.nii.gz")).and_then(|scan| scan.geometry()).unwrap_or_else(|e| panic!("{e}"));
    for name in ["labels.nii", "labels.nii.gz"] {
        let (labels, _) = label_map(&folder, name, &geometry);
        assert_eq!(labels.about()[0].1, "NIfTI-1");
        assert_eq!(labels.affine().expect("an affine").rows, ROWS.map(|row| row.map(|v| f64::from(v as f32))));
        assert!(labels.warnings().is_empty(), "{:?}", labels.warnings());
    }
}

#[test]
fn labels_that_nifti_1_cannot_hold_are_nifti_2() {
    let folder = Folder::new();
    let affine = |scale: f64| Affine { rows: ROWS.map(|row| row.map(|v| v * scale)) };
    let grid = |shape: [usize; 3], scale: f64| {
        let [x, y, z] = affine(scale).rows;
        Geometry::new(shape, Affine::from_matrix(PatientAxes::Ras, [x, y, z, [0.0, 0.0, 0.0, 1.0]]).expect("an affine")).expect("a grid")
    };
    let cases = [
        ("the longest of NIfTI-1", [32_767, 2, 1], 1.0, "NIfTI-1"),
        ("many slices", [32_768, 2, 1], 1.0, "NIfTI-2"),
        ("more than 16 bits", [70_000, 1, 2], 1.0, "NIfTI-2"),
        ("numbers beyond an f32", [2, 3, 4], 1e37, "NIfTI-2"),
        ("numbers below an f32", [2, 3, 4], 1e-45, "NIfTI-2"),
    ];
    for (case, shape, scale, version) in cases {
        for name in ["labels.nii", "labels.nii.gz"] {
            let (labels, path) = label_map(&folder, name, &grid(shape, scale));
            assert_eq!(([labels.slices(), labels.height(), labels.width()], &*labels.about()[0].1), (shape, version), "{case}, {name}");
            assert!(labels.warnings().is_empty(), "{case}: {:?}", labels.warnings());
            if version == "NIfTI-2" {
                assert_eq!(labels.affine().expect("an affine"), &affine(scale), "{case}, {name}");
            }
            // The labels of labels have the same grid.
            let (again, _) = label_map(&folder, "again.nii", &labels.geometry().expect("a grid"));
            assert_eq!((again.affine(), &again.about()[0]), (labels.affine(), &labels.about()[0]), "{case}");
            assert_eq!(files_begin(&path), if version == "NIfTI-2" { 540 } else { 348 }, "{case}, {name}");
        }
    }
}

/// The first number of a file, which may be compressed: the length of the header.
fn files_begin(path: &Path) -> i32 {
    let bytes = fs::read(path).expect("a file");
    let bytes = if bytes.starts_with(&[0x1F, 0x8B]) { inflated(path) } else { bytes };
    i32::from_le_bytes(*bytes.first_chunk().expect("four bytes"))
}
