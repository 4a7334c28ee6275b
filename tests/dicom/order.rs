//! Slices without positions, or with one position for all of them.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use meddino::ct::Volume;

use super::make::{ct, hu, put_pixels, save, stored};
use super::{read, with, without};

/// A classic file with the frames of slices 0, 1 and 2, all at z = 5, with the elements `extra` and without `missing`.
fn classic(extra: &[(Tag, &str)], missing: &[Tag]) -> InMemDicomObject {
    let mut object = with(ct(5.0), tags::NUMBER_OF_FRAMES, VR::IS, "3");
    put_pixels(&mut object, &[0.0, 1.0, 2.0].map(stored).concat());
    let object = extra.iter().fold(object, |object, (tag, text)| with(object, *tag, VR::DS, text));
    missing.iter().fold(object, |object, tag| without(object, *tag))
}

const DISTANCE: Tag = tags::SPACING_BETWEEN_SLICES;
const POSITION: Tag = tags::IMAGE_POSITION_PATIENT;
const ORIENTATION: Tag = tags::IMAGE_ORIENTATION_PATIENT;

/// Frames are read as SimpleITK reads them: in order along the normal, or against it if the distance is negative.
#[test]
fn frames_with_one_position_lie_the_stated_distance_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("classic.dcm");
    let coronal = (ORIENTATION, "1\\0\\0\\0\\0\\-1");
    let up = [0.0, 1.0, 2.0];
    let down = [2.0, 1.0, 0.0];
    // The affine's slice column and its origin, in RAS+.
    for (extra, order, step, origin) in [
        (&[(DISTANCE, "2.5")][..], up, [0.0, 0.0, 2.5], [10.0, 20.0, 5.0]),
        (&[(DISTANCE, "-2.5")], down, [0.0, 0.0, 2.5], [10.0, 20.0, 0.0]),
        (&[(DISTANCE, "2.5"), coronal], up, [0.0, -2.5, 0.0], [10.0, 20.0, 5.0]),
    ] {
        save(classic(extra, &[]), &path);
        for path in [path.as_path(), folder.path()] {
            let (slices, warned) = read(path, None).expect("three slices");
            assert_eq!(slices, order.map(hu), "{extra:?}");
            assert!(
                warned.contains("one ImagePositionPatient for all frames: they are assumed to be")
                    && warned.contains("SpacingBetweenSlices"),
                "{warned}"
            );
            let rows = Volume::open(path).expect("a scan").affine().expect("an affine").rows;
            assert_eq!([rows.map(|row| row[2]), rows.map(|row| row[3])], [step, origin], "{extra:?}");
        }
    }
}

#[test]
fn frames_without_a_distance_or_a_position_are_read_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("classic.dcm");
    for (extra, missing, warning) in [
        (&[][..], &[][..], "no SpacingBetweenSlices: they are read in their order, how far apart they are is unknown"),
        (&[(DISTANCE, "0")], &[], "no SpacingBetweenSlices: they are read in their order"),
        (&[(DISTANCE, "2.5")], &[POSITION, ORIENTATION], "it does not state its orientation"),
        (&[(DISTANCE, "2.5")], &[ORIENTATION], "it does not state its orientation"),
    ] {
        save(classic(extra, missing), &path);
        for path in [path.as_path(), folder.path()] {
            let (slices, warned) = read(path, None).unwrap_or_else(|e| panic!("{extra:?}, {missing:?}: {e}"));
            assert_eq!(slices, [0.0, 1.0, 2.0].map(hu), "{extra:?}, {missing:?}");
            assert!(warned.contains(warning), "{extra:?}, {missing:?}: {warned}");
            assert!(Volume::open(path).expect("a scan").affine().is_none());
        }
    }
    // Coronal slices cannot be treated as axial ones.
    save(classic(&[(ORIENTATION, "1\\0\\0\\0\\0\\-1")], &[]), &path);
    let error = read(&path, None).expect_err("no distance");
    assert!(error.contains("no SpacingBetweenSlices: how far apart they are is unknown"), "{error}");
}

/// Files of the slices 3, 1, 2 and 0, in this order, all with one position or with none.
fn files(extra: &[(Tag, &str)], missing: &[Tag], numbers: [&str; 4]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (id, number) in [3, 1, 2, 0].into_iter().zip(numbers) {
        let object = with(ct(f64::from(id)), POSITION, VR::DS, "-10\\-20\\7");
        let object = with(object, tags::INSTANCE_NUMBER, VR::IS, number);
        // Each slice has its own time, as scanners write it.
        let object = with(object, tags::ACQUISITION_TIME, VR::TM, &format!("10101{id}"));
        let object = extra.iter().fold(object, |object, (tag, text)| with(object, *tag, VR::DS, text));
        save(missing.iter().fold(object, |object, tag| without(object, *tag)), &folder.path().join(format!("IM{}", 9 - id)));
    }
    folder
}

#[test]
fn files_with_one_position_are_sorted_by_instance_number_if_the_distance_is_known() {
    let counted = ["14", "12", "13", "11"];
    for (missing, expected_affine, expected) in [
        (
            &[][..],
            Some([0.0, 0.0, 2.5, 7.0]),
            "its 4 slices all have one ImagePositionPatient (at -10.0, -20.0, 7.0 mm): they are assumed to be 2.5 mm apart",
        ),
        (&[POSITION], None, "its 4 slices have no ImagePositionPatient or no ImageOrientationPatient: they are assumed to be 2.5 mm apart"),
        (&[POSITION, ORIENTATION], None, "its 4 slices have no ImagePositionPatient"),
    ] {
        let folder = files(&[(DISTANCE, "2.5")], missing, counted);
        let (slices, warned) = read(folder.path(), None).expect("four slices");
        assert_eq!(slices, [0.0, 1.0, 2.0, 3.0].map(hu), "{missing:?}");
        assert!(warned.contains(expected) && warned.contains("in the order of InstanceNumber"), "{warned}");
        let affine = Volume::open(folder.path()).expect("a scan").affine().map(|affine| affine.rows[2]);
        assert_eq!(affine, expected_affine, "{missing:?}");
    }
}

#[test]
fn files_that_cannot_be_ordered_are_refused() {
    let counted = ["14", "12", "13", "11"];
    for (extra, missing, numbers, why) in [
        (&[][..], &[][..], counted, "how far apart they are is not said (SpacingBetweenSlices)"),
        (&[], &[POSITION], counted, "how far apart they are is not said (SpacingBetweenSlices)"),
        (&[(DISTANCE, "2.5")], &[], ["14", "12", "12", "11"], "their InstanceNumbers do not tell either"),
        (&[(DISTANCE, "2.5")], &[tags::INSTANCE_NUMBER], counted, "their InstanceNumbers do not tell either"),
        (&[(DISTANCE, "2.5")], &[POSITION, tags::INSTANCE_NUMBER], counted, "their InstanceNumbers do not tell either"),
    ] {
        let error = read(files(extra, missing, numbers).path(), None).expect_err(why);
        assert!(error.contains("their order is unknown, as ") && error.contains(why) && error.contains("give a single file"), "{error}");
    }
}
