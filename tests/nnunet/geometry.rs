//! Label maps have the position and orientation of their scan.

use std::fs;
use std::io::Read;
use std::path::Path;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use flate2::read::GzDecoder;
use meddino::ct::{Orient, Turn, Volume};
use meddino::output::LabelFile;

use crate::desk::Desk;
use crate::dicom;
use crate::nifti::{Nifti, gzip};
use crate::{MULTISCALE, results};

type Change = Box<dyn Fn(&mut Nifti)>;

/// A scan of 3 x 20 x 24 voxels whose header the cases change.
fn blank() -> Nifti {
    Nifti::i16([3, 20, 24], (0..3 * 20 * 24).map(|i| (i * 37 % 400 - 150) as i16))
}

fn segment(desk: &Desk, input: &Path, output: &str) -> Vec<u8> {
    desk.succeed(&format!(
        "segment -m {} -f 0 --disable-tta -i {} -o {output} --backend cpu",
        results(MULTISCALE).display(),
        input.display()
    ));
    inflated(&desk.path(output))
}

/// The bytes of a file, decompressed if they are gzip.
pub fn inflated(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("labels");
    let mut inflated = Vec::new();
    match GzDecoder::new(&bytes[..]).read_to_end(&mut inflated) {
        Ok(_) => inflated,
        Err(_) => bytes,
    }
}

/// The header fields that place voxels, in little endian: dim, pixdim, units, codes, quaternion and offset, the sform's
/// three rows.
fn place(bytes: &[u8]) -> Vec<&[u8]> {
    [40..56, 76..108, 123..124, 252..256, 256..280, 280..328].into_iter().map(|range| &bytes[range]).collect()
}

#[test]
fn every_header_equals_the_scans_bit_for_bit() {
    let srow = |rows: [f32; 12]| move |n: &mut Nifti| n.srow = rows;
    let (c, s) = (0.9 * 20_f32.to_radians().cos(), 0.9 * 20_f32.to_radians().sin());
    let cases: Vec<(&str, Change)> = vec![
        ("RAS", Box::new(srow([0.9, 0.0, 0.0, -1.5, 0.0, 0.9, 0.0, 7.25, 0.0, 0.0, 3.0, 1e-3]))),
        ("LPS", Box::new(srow([-0.9, 0.0, 0.0, 90.1, 0.0, -0.9, 0.0, 80.2, 0.0, 0.0, 3.0, -70.3]))),
        ("oblique", Box::new(srow([c, -s, 0.0, -1.5, s, c, 0.0, 7.25, 0.0, 0.0, 3.0, 33.0]))),
        ("permuted", Box::new(srow([0.0, 0.0, 3.0, 5.0, 0.9, 0.0, 0.0, 6.0, 0.0, -0.9, 0.0, 7.0]))),
        (
            "qform alone, left-handed, in four axes and micrometres",
            Box::new(|n| {
                n.dim = [4, 24, 20, 3, 1, 1, 1, 1];
                n.pixdim = [-1.0, 900.0, 900.0, 2500.0, 1.7, 0.0, 0.0, 0.0];
                (n.units, n.sform_code, n.qform_code) = (3, 0, 1);
                n.quatern = [0.1, -0.2, 0.3, -11.0, 12.0, 13.5];
            }),
        ),
        ("no form at all", Box::new(|n| (n.sform_code, n.pixdim) = (0, [1.0, 0.9, 0.8, 4.0, 0.0, 0.0, 0.0, 0.0]))),
        ("different forms", Box::new(|n| (n.qform_code, n.sform_code, n.quatern) = (1, 4, [0.0, 0.0, 1.0, 1.0, 2.0, 3.0]))),
    ];
    let desk = Desk::new();
    for (name, change) in cases {
        let scan = blank().with(|n| change(n));
        fs::write(desk.path("scan.nii"), scan.bytes()).expect("written");
        for output in ["labels.nii.gz", "labels.nii"] {
            let labels = segment(&desk, &desk.path("scan.nii"), output);
            assert_eq!(place(&labels), place(&scan.header()), "{name}");
            assert_eq!(labels.len(), 352 + 3 * 20 * 24, "{name}");
            assert_eq!(
                (&labels[70..74], &labels[108..120]),
                (&[2, 0, 8, 0][..], &[0, 0, 176, 67, 0, 0, 128, 63, 0, 0, 0, 0][..]),
                "{name}"
            );
            assert!(labels[352..].iter().all(|label| *label < 4), "{name}");
        }
        // The same scan in big endian gives the same labels.
        let big = Nifti { big_endian: true, voxels: scan.voxels.chunks_exact(2).flat_map(|b| [b[1], b[0]]).collect(), ..scan.clone() };
        fs::write(desk.path("scan.nii"), gzip(&big.bytes())).expect("written");
        let labels = fs::read(desk.path("labels.nii")).expect("labels");
        let again = segment(&desk, &desk.path("scan.nii"), "labels.nii.gz");
        // `descrip` differs because one of the files is compressed.
        let is_equal = |again: &[u8]| again[..148] == labels[..148] && again[228..] == labels[228..];
        assert!(is_equal(&again), "{name}, big-endian");
        // So does the same scan in NIfTI-2, of which NIfTI-1 can hold all numbers.
        fs::write(desk.path("scan.nii"), scan.as_2().bytes()).expect("written");
        assert!(is_equal(&segment(&desk, &desk.path("scan.nii"), "labels.nii.gz")), "{name}, NIfTI-2");
    }
}

/// Writes a series of three slices, `step` apart, whose rows and columns run along `orientation`.
fn save_series(folder: &Path, orientation: &str, step: [f64; 3]) {
    fs::create_dir_all(folder).expect("made");
    for i in 0..3 {
        let mut object = dicom::ct(f64::from(i));
        let [x, y, z] = [0, 1, 2].map(|axis| [-10.0, -20.0, 7.5][axis] + f64::from(i) * step[axis]);
        object.put_str(tags::IMAGE_POSITION_PATIENT, VR::DS, format!("{x}\\{y}\\{z}"));
        object.put_str(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, orientation);
        dicom::save(object, &folder.join(format!("{i}.dcm")));
    }
}

#[test]
fn labels_of_a_dicom_series_have_its_geometry() {
    let desk = Desk::new();
    let cases = [
        ("axial", "1\\0\\0\\0\\1\\0", [0.0, 0.0, 2.5]),
        ("feet first", "-1\\0\\0\\0\\1\\0", [0.0, 0.0, -2.5]),
        ("coronal", "1\\0\\0\\0\\0\\-1", [0.0, 2.0, 0.0]),
        ("sagittal", "0\\1\\0\\0\\0\\-1", [-2.0, 0.0, 0.0]),
        ("oblique", "0.6\\0.8\\0\\0\\0\\-1", [-0.8 * 2.0, 0.6 * 2.0, 0.0]),
        ("turned left", "0.8\\0.6\\0\\-0.6\\0.8\\0", [0.0, 0.0, 3.0]),
        ("turned right", "0.8\\-0.6\\0\\0.6\\0.8\\0", [0.0, 0.0, 3.0]),
        ("turned over", "-0.6\\0.8\\0\\0.8\\0.6\\0", [0.0, 0.0, -2.0]),
    ];
    for (name, orientation, step) in cases {
        let folder = desk.path(&name.replace(' ', "_"));
        save_series(&folder, orientation, step);
        let mut bytes = segment(&desk, &folder, "labels.nii.gz");
        let scan = Volume::open(&folder).expect("a series");
        let affine = scan.affine().expect("it lies somewhere");
        assert_eq!((&bytes[252..256], bytes[123]), (&[1, 0, 1, 0][..], 2), "{name}");
        // The affine from the sform, then from the qform alone.
        for form in ["sform", "qform"] {
            if form == "qform" {
                bytes[254] = 0;
            }
            fs::write(desk.path("again.nii"), &bytes).expect("written");
            let again = Volume::open(desk.path("again.nii")).expect("labels");
            assert_eq!([again.slices(), again.height(), again.width()], [scan.slices(), scan.height(), scan.width()], "{name}");
            let found = again.affine().expect("it lies somewhere");
            for (found, want) in found.rows.iter().flatten().zip(affine.rows.iter().flatten()) {
                // A qform stores three of a quaternion's four numbers, in f32. The fourth is a square root that is 0
                // for half turns, where its error is the square root of f32's precision.
                let tolerance = if form == "sform" { 1e-5 } else { 1e-3 };
                assert!((found - want).abs() < tolerance, "{name}, {form}: {found} for {want}");
            }
            assert!(crate::labels(desk.path("again.nii")).iter().all(|label| *label < 4), "{name}");
        }
    }
}

/// The columns of a scan's affine.
fn columns(scan: &Volume) -> [[f64; 3]; 4] {
    let affine = scan.affine().expect("it lies somewhere");
    [0, 1, 2, 3].map(|axis| affine.column(axis))
}

fn angle(a: [f64; 3], b: [f64; 3]) -> f64 {
    let dot = |a: [f64; 3], b: [f64; 3]| (0..3).map(|i| a[i] * b[i]).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).acos()
}

/// Checks the qform of `labels`, whose sform is sheared by `tilt` between the row and the slice direction. The qform's
/// axes must be at right angles, with each of those two directions turned by half of the tilt.
fn check_qform(desk: &Desk, mut labels: Vec<u8>, tilt: f64) {
    let open = |labels: &[u8]| {
        fs::write(desk.path("again.nii"), labels).expect("written");
        let scan = Volume::open(desk.path("again.nii")).expect("labels");
        assert!(!scan.warnings().iter().any(|w| w.contains("two ")), "{:?}", scan.warnings());
        columns(&scan)
    };
    let sform = open(&labels);
    assert!((angle(sform[1], sform[2]) - (90_f64.to_radians() - tilt)).abs() < 1e-6, "the sform keeps the shear");
    labels[254] = 0;
    let qform = open(&labels);
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        assert!((angle(qform[a], qform[b]) - 90_f64.to_radians()).abs() < 1e-6, "{qform:?}");
    }
    for (axis, want) in [(0, 0.0), (1, tilt.abs() / 2.0), (2, tilt.abs() / 2.0)] {
        let length = |v: [f64; 3]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((angle(sform[axis], qform[axis]) - want).abs() < 1e-4, "{axis}: {sform:?} {qform:?}");
        assert!((length(sform[axis]) - length(qform[axis])).abs() < 1e-5, "{axis}: {sform:?} {qform:?}");
    }
    let bits = |origin: [f64; 3]| origin.map(f64::to_bits);
    assert_eq!(bits(sform[3]), bits(qform[3]));
}

/// A tilted gantry shears a series. The labels' sform keeps the shear. They also need a qform, because SimpleITK opens
/// no file without a form at right angles.
#[test]
fn labels_of_a_tilted_series_have_a_qform_without_shear() {
    let desk = Desk::new();
    for (name, shift) in [("tilted", 0.7), ("tilted back", -0.4), ("hardly tilted", 0.002)] {
        let folder = desk.path(&name.replace(' ', "_"));
        save_series(&folder, "1\\0\\0\\0\\1\\0", [0.0, shift, 2.5]);
        let labels = segment(&desk, &folder, "labels.nii.gz");
        assert_eq!(&labels[252..256], &[1, 0, 1, 0], "{name}");
        check_qform(&desk, labels, shift.atan2(2.5));
    }
}

/// Labels get a valid header even where the scan's lacks what other programs need.
#[test]
fn headers_that_other_programs_reject_are_repaired() {
    let desk = Desk::new();
    let run = |change: &dyn Fn(&mut Nifti)| {
        let scan = blank().with(|n| n.pixdim[1..4].copy_from_slice(&[0.9, 0.8, 2.5])).with(|n| {
            (n.srow[0], n.srow[5], n.srow[10]) = (0.9, 0.8, 2.5);
            change(n);
        });
        fs::write(desk.path("scan.nii"), scan.bytes()).expect("written");
        let labels = segment(&desk, &desk.path("scan.nii"), "labels.nii");
        (scan.header(), labels)
    };
    // An invalid sform is left out. Every other field is the scan's, bit for bit.
    for srow in [[0.0; 12], [f32::NAN; 12]] {
        let (scan, labels) = run(&|n| (n.qform_code, n.sform_code, n.srow, n.quatern[2]) = (1, 2, srow, 0.5));
        assert_eq!(&labels[252..256], &[1, 0, 0, 0]);
        assert_eq!((&labels[280..328], &labels[256..280]), (&[0; 48][..], &scan[256..280]));
        assert_eq!(place(&labels)[..3], place(&scan)[..3]);
    }
    // A fourth axis of length 0 becomes one volume.
    let (scan, labels) = run(&|n| n.dim = [5, 24, 20, 3, 0, 0, 0, 0]);
    assert_eq!(&labels[40..56], &[5, 0, 24, 0, 20, 0, 3, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(place(&labels)[1..], place(&scan)[1..]);
    // A sheared sform without a qform gets a qform of the same code.
    let tilt = 0.2_f32;
    let (scan, labels) = run(&|n| (n.sform_code, n.srow[6], n.srow[10]) = (3, 2.5 * tilt.sin(), 2.5 * tilt.cos()));
    assert_eq!((&labels[252..256], &labels[280..328]), (&[3, 0, 3, 0][..], &scan[280..328]));
    check_qform(&desk, labels, f64::from(tilt));
    // A scan with a qform keeps it.
    let (scan, labels) = run(&|n| (n.qform_code, n.srow[6]) = (1, 0.5));
    assert_eq!(place(&labels), place(&scan));
}

/// A turned scan's geometry is its own affine, not that of the file's header.
#[test]
fn a_turned_scan_has_the_geometry_of_its_affine() {
    let desk = Desk::new();
    fs::write(desk.path("scan.nii"), blank().bytes()).expect("written");
    let turned = Volume::open(desk.path("scan.nii")).and_then(|scan| scan.oriented(Orient::Lps)).expect("a scan");
    fs::write(desk.path("labels.nii"), [&turned.geometry().expect("it lies somewhere").nifti_labels(1)[..], &[0; 3 * 20 * 24]].concat())
        .expect("written");
    let again = Volume::open(desk.path("labels.nii")).expect("labels");
    assert_eq!(again.affine(), turned.affine());
}

/// The lines of a text header that place the voxels.
fn text_place(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).expect("labels");
    let names = ["space", "sizes", "TransformMatrix", "Offset", "ElementSpacing", "DimSize"];
    let lines = bytes.split(|byte| *byte == b'\n').take(16).map(|line| String::from_utf8_lossy(line).into_owned());
    lines.filter(|line| names.iter().any(|name| line.starts_with(name))).collect()
}

#[test]
fn nrrd_and_metaimage_labels_lie_where_the_scan_lies() {
    let desk = Desk::new();
    // An oblique scan whose columns and rows are not whole numbers apart.
    let (sin, cos) = 0.3_f32.sin_cos();
    let mut scan = blank();
    scan.sform_code = 1;
    scan.srow = [-0.7 * cos, -0.9 * sin, 0.0, 81.3, 0.7 * sin, -0.9 * cos, 0.0, -12.7, 0.0, 0.0, 2.3, -401.9];
    scan.pixdim = [1.0, 0.7, 0.9, 2.3, 0.0, 0.0, 0.0, 0.0];
    fs::write(desk.path("scan.nii"), scan.bytes()).expect("written");
    let place = |name: &str| Volume::open(desk.path(name)).expect("opened").affine().expect("a place").rows;
    segment(&desk, &desk.path("scan.nii"), "labels.nii");
    let (rows, voxels) = (place("scan.nii"), crate::labels(desk.path("labels.nii")));
    assert!(voxels.iter().any(|label| *label != 0));
    for ending in ["nrrd", "mha"] {
        let name = format!("labels.{ending}");
        segment(&desk, &desk.path("scan.nii"), &name);
        assert_eq!(crate::labels(desk.path(&name)), voxels, "{name}");
        for (found, want) in place(&name).as_flattened().iter().zip(rows.as_flattened()) {
            assert!((found - want).abs() < 1e-6 * want.abs().max(1.0), "{name}: {found} for {want}");
        }
        // Labels of a scan in the same format repeat its numbers.
        let again = format!("again.{ending}");
        segment(&desk, &desk.path(&name), &again);
        assert_eq!(text_place(&desk.path(&again)), text_place(&desk.path(&name)), "{name}");
        assert!(text_place(&desk.path(&name)).len() >= 4);
    }
}

/// Labels take two bytes if one byte cannot hold them.
#[test]
fn many_labels_take_two_bytes() {
    let desk = Desk::new();
    fs::write(desk.path("scan.nii"), blank().bytes()).expect("written");
    let geometry = Volume::open(desk.path("scan.nii")).and_then(|scan| scan.geometry()).expect("a scan");
    // nnU-Net takes two bytes from 255 labels besides the background on.
    for (classes, bits) in [(2_u32, 8), (255, 8), (256, 16), (257, 16), (65_536, 16)] {
        for ending in ["nii.gz", "nrrd", "mha"] {
            let path = desk.path(&format!("labels.{ending}"));
            let of = |i: usize| (i as u32 * 37 % classes) as u16;
            for (order, shape) in [([0, 1, 2], [3, 20, 24]), ([2, 0, 1], [24, 3, 20]), ([1, 2, 0], [20, 24, 3])] {
                let mut file = LabelFile::create(&path, &geometry, classes as usize, Turn::of_order(order)).expect("created");
                let [slices, rows, columns] = shape;
                for slice in 0..slices {
                    let mut labels = Vec::new();
                    for place in 0..rows * columns {
                        let mut index = [0; 3];
                        (index[order[0]], index[order[1]], index[order[2]]) = (slice, place / columns, place % columns);
                        labels.push(of((index[0] * 20 + index[1]) * 24 + index[2]));
                    }
                    file.push(&labels).expect("written");
                }
                file.finish().expect("written");
                let want: Vec<u16> = (0..3 * 20 * 24).map(of).collect();
                assert_eq!(crate::labels(&path), want, "{classes} {order:?} {ending}");
                if ending == "nii.gz" {
                    assert_eq!(inflated(&path)[72], bits, "{classes}");
                }
            }
        }
    }
}
