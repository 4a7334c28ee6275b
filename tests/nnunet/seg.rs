//! `meddino segment --seg`: a DICOM SEG beside the labels of a DICOM series.

use std::fs;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, open_file};

use crate::desk::{Desk, text};
use crate::{MULTISCALE, dicom, labels, results, scan};

const SIDE: usize = 24;

/// A series of three slices on `desk`, with what a SEG refers to.
fn series(desk: &Desk, folder: &str) {
    fs::create_dir_all(desk.path(folder)).expect("made");
    for k in 0..3 {
        let mut object = dicom::ct(2.0 * f64::from(k));
        for tag in [tags::ROWS, tags::COLUMNS] {
            dicom::put_u16(&mut object, tag, SIDE as u16);
        }
        let hu = |i: usize| if (i / SIDE).abs_diff(12) + (i % SIDE).abs_diff(12) < 8 { 1100 + 10 * k as u16 } else { 24 };
        dicom::put_pixels(&mut object, &(0..SIDE * SIDE).map(hu).collect::<Vec<_>>());
        object.put_str(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.840.99.5");
        object.put_str(tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.840.99.6");
        dicom::save(object, &desk.path(&format!("{folder}/{k}")));
    }
}

fn segment(input: &str, flags: &str) -> String {
    format!("segment -m {} -i {input} --backend cpu {flags}", results(MULTISCALE).display())
}

/// The number of bits that are set in a binary SEG.
fn bits(file: &DefaultDicomObject) -> usize {
    let bytes = file.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes").into_owned();
    bytes.iter().map(|byte| byte.count_ones() as usize).sum()
}

fn text_of(file: &DefaultDicomObject, tag: Tag) -> String {
    file.element(tag).expect("an element").to_str().expect("text").trim_end_matches(['\0', ' ']).to_owned()
}

#[test]
fn a_series_gets_a_seg_of_its_labels_which_a_second_run_leaves_alone() {
    let desk = Desk::new();
    series(&desk, "study/a");
    desk.succeed(&segment("study/a", "-o a.nii.gz --seg"));
    let labelled = labels(desk.path("a.nii.gz")).into_iter().filter(|label| *label > 0).count();
    assert!(labelled > 0, "the network finds something");
    let file = open_file(desk.path("a.dcm")).expect("DICOM");
    assert_eq!((bits(&file), text_of(&file, tags::SOP_CLASS_UID).as_str()), (labelled, uids::SEGMENTATION_STORAGE));

    let line = segment("study", "-o out --seg");
    desk.succeed(&line);
    assert!(desk.files().contains(&"out".to_owned()) && desk.path("out/a.dcm").exists() && desk.path("out/a.nii.gz").exists());
    let before = fs::read(desk.path("out/a.dcm")).expect("read");
    assert!(text(&desk.run(&line).stderr).contains("1 of 1 cases are skipped"));
    assert_eq!(fs::read(desk.path("out/a.dcm")).expect("read"), before);
    desk.succeed(&segment("study", "-o out --seg --labelmap"));
    let file = open_file(desk.path("out/a.dcm")).expect("DICOM");
    assert_eq!(text_of(&file, tags::SOP_CLASS_UID), uids::LABEL_MAP_SEGMENTATION_STORAGE, "other settings, another file");
}

#[test]
fn codes_come_from_a_file() {
    let desk = Desk::new();
    series(&desk, "a");
    let code = |value: &str| format!("{{\"CodeValue\": \"{value}\", \"CodingSchemeDesignator\": \"SCT\", \"CodeMeaning\": \"x\"}}");
    let json = |label: u16| {
        let segment = format!(
            "{{\"labelID\": {label}, \"SegmentedPropertyCategoryCodeSequence\": {}, \"SegmentedPropertyTypeCodeSequence\": {}}}",
            code("91723000"),
            code("1234")
        );
        format!("{{\"SeriesDescription\": \"Mine\", \"segmentAttributes\": [[{segment}]]}}")
    };
    fs::write(desk.path("codes.json"), json(1)).expect("written");
    desk.succeed(&segment("a", "-o a.nii.gz --seg --seg-codes codes.json"));
    let file = open_file(desk.path("a.dcm")).expect("DICOM");
    assert_eq!(text_of(&file, tags::SERIES_DESCRIPTION), "Mine");
    fs::write(desk.path("codes.json"), json(9)).expect("written");
    for (input, flags, expected) in [
        ("a", "--seg --seg-codes codes.json", "--seg-codes: describes labelID 9, but the network has the labels 1 to 3"),
        (scan("thin").to_str().expect("UTF-8"), "--seg", "is no DICOM series, to whose images a DICOM SEG refers"),
        ("a", "--labelmap", "--seg"),
    ] {
        let output = desk.run(&segment(input, &format!("-o b.nii.gz {flags}")));
        let stderr = text(&output.stderr);
        assert!(!output.status.success() && stderr.contains(expected), "{flags}: {stderr}");
        assert!(!desk.path("b.nii.gz").exists() && !desk.path("b.dcm").exists(), "{flags}");
    }
}
