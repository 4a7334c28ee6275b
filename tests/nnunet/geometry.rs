//! Labels lie where the scan lies.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use meddino::ct::Volume;

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
    let bytes = fs::read(desk.path(output)).expect("labels");
    let mut inflated = Vec::new();
    match GzDecoder::new(&bytes[..]).read_to_end(&mut inflated) {
        Ok(_) => inflated,
        Err(_) => bytes,
    }
}

/// The fields that say where voxels lie, in little endian: dim, pixdim, units, codes, quaternion and offset, the three rows.
fn place(bytes: &[u8]) -> Vec<&[u8]> {
    [40..56, 76..108, 123..124, 252..256, 256..280, 280..328].into_iter().map(|range| &bytes[range]).collect()
}

#[test]
fn every_header_is_the_scans_to_the_bit() {
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
        // Stored the other way round it is the same scan.
        let big = Nifti { big_endian: true, voxels: scan.voxels.chunks_exact(2).flat_map(|b| [b[1], b[0]]).collect(), ..scan.clone() };
        fs::write(desk.path("scan.nii"), gzip(&big.bytes())).expect("written");
        let labels = fs::read(desk.path("labels.nii")).expect("labels");
        assert!(segment(&desk, &desk.path("scan.nii"), "labels.nii.gz") == labels, "{name}, big-endian");
    }
}

#[test]
fn labels_of_a_dicom_series_lie_where_it_lies() {
    let desk = Desk::new();
    let series = desk.path("series");
    for (folder, shear) in [("straight", false), ("tilted", true)] {
        fs::create_dir_all(series.join(folder)).expect("made");
        for i in 0..3 {
            let mut object = dicom::ct(f64::from(i) * 2.5);
            if shear {
                // A tilted gantry: slices are shifted against each other.
                let position = format!("-10\\{}\\{}", -20.0 + f64::from(i) * 0.7, f64::from(i) * 2.5);
                object.put_str(dicom_dictionary_std::tags::IMAGE_POSITION_PATIENT, dicom_core::VR::DS, position);
            }
            dicom::save(object, &series.join(folder).join(format!("{i}.dcm")));
        }
        let mut labels = segment(&desk, &series.join(folder), "labels.nii.gz");
        let scan = Volume::open(series.join(folder)).expect("a series");
        let affine = scan.affine().expect("it lies somewhere");
        let codes = if shear { [0, 0, 1, 0] } else { [1, 0, 1, 0] };
        assert_eq!((&labels[252..256], labels[123]), (&codes[..], 2), "{folder}");
        // By its sform, then by its qform alone.
        for form in 0..if shear { 1 } else { 2 } {
            if form == 1 {
                labels[254] = 0;
            }
            fs::write(desk.path("again.nii"), &labels).expect("written");
            let again = Volume::open(desk.path("again.nii")).expect("labels");
            assert_eq!([again.slices(), again.height(), again.width()], [scan.slices(), scan.height(), scan.width()]);
            let found = again.affine().expect("it lies somewhere");
            for (found, want) in found.rows.iter().flatten().zip(affine.rows.iter().flatten()) {
                assert!((found - want).abs() < 1e-4, "{folder}, form {form}: {found} for {want}");
            }
            assert!(crate::labels(desk.path("again.nii")).iter().all(|label| *label < 4));
        }
    }
}
