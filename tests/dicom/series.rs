//! Which of several series is read, and its position in the patient.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use meddino::ct::{Volume, series};

use super::make::{SIZE, ct, hu, save};
use super::{other, read, with};

#[test]
fn the_affine_has_the_row_spacing_along_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    [4.0, 0.0, 2.0].into_iter().for_each(|z| save(ct(z), &folder.path().join(z.to_string())));
    let scan = Volume::open(folder.path()).expect("a scan");
    let affine = scan.affine().expect("an affine");
    assert_eq!(affine.rows, [[-0.75, 0.0, 0.0, 10.0], [0.0, -0.5, 0.0, 20.0], [0.0, 0.0, 2.0, 0.0]]);
    assert_eq!(
        scan.about()[..3],
        [
            ("format", "DICOM".to_string()),
            ("transfer_syntax", "Explicit VR Little Endian".to_string()),
            ("series_uid", "1.2.840.99.1".to_string()),
        ]
    );
}

#[test]
fn a_series_is_chosen_by_number_or_by_the_end_of_its_uid() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: String| folder.path().join(name);
    (0..3).for_each(|z| save(ct(f64::from(z)), &at(format!("a{z}"))));
    (5..7).for_each(|z| save(other(f64::from(z)), &at(format!("b{z}"))));
    let listed = series(folder.path()).expect("series");
    let short: Vec<_> = listed.iter().map(|s| (s.number, s.uid.as_str(), s.description.as_str(), s.slices, s.size, s.spacing)).collect();
    let spacing = Some([0.75, 0.5, 1.0]);
    assert_eq!(short, [(1, "1.2.840.99.22", "Lung", 2, SIZE, spacing), (2, "1.2.840.99.1", "Thorax", 3, SIZE, spacing)]);
    for (choice, first) in [("1", 5.0), ("2", 0.0), (".22", 5.0), (".1", 0.0), ("1.2.840.99.22", 5.0)] {
        let (slices, _) = read(folder.path(), Some(choice)).expect(choice);
        assert_eq!(slices[0], hu(first), "{choice}");
    }
    for (choice, expected) in [
        ("3", "no series is named by '3'"),
        ("22", "no series is named by '22'"),
        ("9.1", "no series is named by '9.1'"),
        ("", "no series"),
        ("7.7", "no series"),
        ("-1", "no series"),
    ] {
        let error = read(folder.path(), Some(choice)).expect_err(choice);
        assert!(error.contains(expected) && error.contains("1: Lung") && error.contains("2: Thorax"), "{error}");
    }
    save(with(other(1.0), tags::SERIES_INSTANCE_UID, VR::UI, "1.9.22"), &at("c".into()));
    let error = read(folder.path(), Some(".22")).expect_err("two series");
    assert!(error.contains("'.22' names several series; give a number") && !error.contains("Thorax"), "{error}");
    // A choice is checked even if there is only one series.
    save(ct(0.0), &at("only".into()));
    assert!(read(&at("only".into()), Some("2")).is_err());
    assert!(read(&at("only".into()), Some("1")).is_ok());
    let error = Volume::open_series(folder.path().join("scan.npy"), Some("1")).expect_err("no DICOM").to_string();
    assert!(error.contains("scan.npy"), "{error}");
}
