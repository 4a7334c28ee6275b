//! DICOM SEG of label maps: every frame is read back by dicom-object, and compared with the labels and the images.

use std::fs;
use std::path::Path;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, InMemDicomObject, open_file};
use meddino::ct::{Turn, Volume};
use meddino::output::{SegFile, SegHeader, SegKind, SegSettings, Targets, is_ours};

use super::make::{SIZE, ct, save};
use super::{frames, with, without};

const PIXELS: usize = SIZE[0] * SIZE[1];
const NAMES: [&str; 4] = ["background", "right kidney", "cyst", "thing"];

/// An image of a patient, at `z`, moved by `shift` mm to posterior.
fn image(z: f64, shift: f64) -> InMemDicomObject {
    let object = with(ct(z), tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("-10\\{}\\{z}", shift - 20.0));
    with(patient(object), tags::SLICE_THICKNESS, VR::DS, "1.5")
}

fn patient(mut object: InMemDicomObject) -> InMemDicomObject {
    for (tag, vr, text) in [
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100"),
        (tags::PATIENT_NAME, VR::PN, "Müller^Jörg"),
        (tags::PATIENT_ID, VR::LO, "7"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.840.99.5"),
        (tags::STUDY_DATE, VR::DA, "20200304"),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.840.99.6"),
    ] {
        object.put_str(tag, vr, text);
    }
    object
}

/// A folder of four slices 2 mm apart, sheared, in files whose names say another order.
fn series(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    for (name, k) in ["c", "a", "d", "b"].iter().zip([0, 1, 2, 3].map(f64::from)) {
        save(image(2.0 * k, 0.5 * k), &folder.join(name));
    }
}

/// Labels [4, 4, 6]: 1 in slices 0, 1 and 3, 3 in slice 1 alone, 2 nowhere.
fn labels() -> Vec<u16> {
    let mut labels = vec![0; 4 * PIXELS];
    labels[3..9].fill(1);
    labels[PIXELS + 10..PIXELS + 20].fill(1);
    labels[PIXELS + 15..PIXELS + 24].fill(3);
    labels[3 * PIXELS] = 1;
    labels
}

fn header(scan: &Path, kind: SegKind) -> Result<SegHeader, String> {
    let scan = Volume::open(scan).map_err(|e| e.to_string())?;
    let images = scan.dicom().expect("DICOM with places");
    let settings = SegSettings { kind, ..SegSettings::default() };
    SegHeader::new("scan", images, &NAMES.map(str::to_owned), "Dataset1_Test", &settings).map_err(|e| e.to_string())
}

/// Writes `labels`, and reads the file back.
fn write(scan: &Path, kind: SegKind, labels: &[u16], target: &Path) -> DefaultDicomObject {
    let mut file = SegFile::create(target, header(scan, kind).expect("a header"), NAMES.len(), Turn::NONE).expect("created");
    labels.chunks(PIXELS).for_each(|slice| file.push(slice).expect("kept"));
    file.finish().expect("written");
    open_file(target).expect("DICOM")
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    object.element(tag).unwrap_or_else(|e| panic!("{tag}: {e}")).to_str().expect("text").trim_matches(['\0', ' ']).to_owned()
}

fn number(object: &InMemDicomObject, tag: Tag) -> usize {
    object.element(tag).unwrap_or_else(|e| panic!("{tag}: {e}")).to_int().expect("a number")
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.element(tag).unwrap_or_else(|e| panic!("{tag}: {e}")).items().expect("items")
}

fn inside(object: &InMemDicomObject, path: &[Tag]) -> InMemDicomObject {
    path.iter().fold(object.clone(), |object, tag| items(&object, *tag)[0].clone())
}

/// A frame: the segment number, or none; its position; the UID and frame of its image; and its values.
type Frame = (Option<usize>, String, String, Option<usize>, Vec<u16>);

fn frames_of(file: &DefaultDicomObject) -> Vec<Frame> {
    let bytes = file.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes").into_owned();
    let bits = number(file, tags::BITS_ALLOCATED);
    let values: Vec<u16> = match bits {
        1 => bytes.iter().flat_map(|byte| (0..8).map(move |bit| u16::from(byte >> bit & 1))).collect(),
        8 => bytes.iter().map(|byte| u16::from(*byte)).collect(),
        bits => panic!("{bits} bits"),
    };
    let groups = items(file, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    assert_eq!(groups.len(), number(file, tags::NUMBER_OF_FRAMES));
    assert_eq!(bytes.len(), (groups.len() * PIXELS * bits).div_ceil(8).next_multiple_of(2));
    let frame = |(group, values): (&InMemDicomObject, &[u16])| {
        let segment = group
            .get(tags::SEGMENT_IDENTIFICATION_SEQUENCE)
            .map(|_| number(&inside(group, &[tags::SEGMENT_IDENTIFICATION_SEQUENCE]), tags::REFERENCED_SEGMENT_NUMBER));
        let position = text(&inside(group, &[tags::PLANE_POSITION_SEQUENCE]), tags::IMAGE_POSITION_PATIENT);
        let source = inside(group, &[tags::DERIVATION_IMAGE_SEQUENCE, tags::SOURCE_IMAGE_SEQUENCE]);
        let number = source.get(tags::REFERENCED_FRAME_NUMBER).map(|_| number(&source, tags::REFERENCED_FRAME_NUMBER));
        (segment, position, text(&source, tags::REFERENCED_SOP_INSTANCE_UID), number, values.to_vec())
    };
    groups.iter().zip(values.chunks(PIXELS)).map(frame).collect()
}

/// The expected frames of [`labels`] on [`series`]: those of label 1, and then that of label 3, which is segment 2.
fn expected() -> Vec<Frame> {
    let labels = labels();
    let frame = |segment, label, slice: usize| {
        let source = text(&image(2.0 * slice as f64, 0.0), tags::SOP_INSTANCE_UID);
        let mask = labels[slice * PIXELS..][..PIXELS].iter().map(|found| u16::from(*found == label)).collect();
        (Some(segment), format!("-10\\{}\\{}", 0.5 * slice as f64 - 20.0, 2 * slice), source, None, mask)
    };
    vec![frame(1, 1, 0), frame(1, 1, 1), frame(1, 1, 3), frame(2, 3, 1)]
}

#[test]
fn frames_have_the_labels_bits_places_and_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, target) = (folder.path().join("scan"), folder.path().join("labels.dcm"));
    series(&scan);
    let file = write(&scan, SegKind::Binary, &labels(), &target);
    assert_eq!(frames_of(&file), expected());
    let shared = inside(&file, &[tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags::PIXEL_MEASURES_SEQUENCE]);
    let measures = [tags::PIXEL_SPACING, tags::SLICE_THICKNESS, tags::SPACING_BETWEEN_SLICES].map(|tag| text(&shared, tag));
    assert_eq!(measures, ["0.5\\0.75", "1.5", "2"]);
    // Slices that come along the columns, with rows along the slices.
    let mut turned = SegFile::create(&target, header(&scan, SegKind::Binary).expect("a header"), NAMES.len(), Turn::of_order([2, 0, 1]))
        .expect("created");
    for column in 0..SIZE[1] {
        let at = |slice: usize, row: usize| labels()[(slice * SIZE[0] + row) * SIZE[1] + column];
        turned.push(&(0..4).flat_map(|slice| (0..SIZE[0]).map(move |row| at(slice, row))).collect::<Vec<_>>()).expect("kept");
    }
    turned.finish().expect("written");
    assert_eq!(frames_of(&open_file(&target).expect("DICOM")), expected());
}

#[test]
fn patient_study_and_images_are_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, target) = (folder.path().join("scan"), folder.path().join("labels.dcm"));
    series(&scan);
    let file = write(&scan, SegKind::Binary, &labels(), &target);
    for (tag, expected) in [
        (tags::SOP_CLASS_UID, uids::SEGMENTATION_STORAGE),
        (tags::PATIENT_NAME, "Müller^Jörg"),
        (tags::PATIENT_ID, "7"),
        (tags::PATIENT_BIRTH_DATE, ""),
        (tags::STUDY_INSTANCE_UID, "1.2.840.99.5"),
        (tags::STUDY_DATE, "20200304"),
        (tags::FRAME_OF_REFERENCE_UID, "1.2.840.99.6"),
        (tags::SERIES_NUMBER, "1003"),
        (tags::SEGMENTATION_TYPE, "BINARY"),
    ] {
        assert_eq!(text(&file, tag), expected, "{tag}");
    }
    let referenced = items(&file, tags::REFERENCED_SERIES_SEQUENCE);
    assert_eq!((referenced.len(), text(&referenced[0], tags::SERIES_INSTANCE_UID).as_str()), (1, "1.2.840.99.1"));
    let images = items(&referenced[0], tags::REFERENCED_INSTANCE_SEQUENCE);
    let found: Vec<String> = images.iter().map(|image| text(image, tags::REFERENCED_SOP_INSTANCE_UID)).collect();
    assert_eq!(found, [0.0, 2.0, 4.0, 6.0].map(|z| text(&image(z, 0.0), tags::SOP_INSTANCE_UID)), "also of the empty slice");
    assert!(images.iter().all(|image| text(image, tags::REFERENCED_SOP_CLASS_UID) == uids::CT_IMAGE_STORAGE));
    let again = write(&scan, SegKind::Binary, &labels(), &target);
    for tag in [tags::SOP_INSTANCE_UID, tags::SERIES_INSTANCE_UID] {
        assert_ne!(text(&again, tag), text(&file, tag), "each file is an instance of its own");
    }
}

#[test]
fn segments_say_what_their_names_say_and_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, target) = (folder.path().join("scan"), folder.path().join("labels.dcm"));
    series(&scan);
    let file = write(&scan, SegKind::Binary, &labels(), &target);
    let described: Vec<_> = items(&file, tags::SEGMENT_SEQUENCE)
        .iter()
        .map(|segment| {
            let code = |tag| text(&inside(segment, &[tag]), tags::CODE_VALUE);
            let kind = inside(segment, &[tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE]);
            let side = kind
                .get(tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE)
                .map(|_| text(&inside(&kind, &[tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE]), tags::CODE_VALUE));
            (
                number(segment, tags::SEGMENT_NUMBER),
                text(segment, tags::SEGMENT_LABEL),
                code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE),
                text(&kind, tags::CODE_VALUE),
                side,
            )
        })
        .collect();
    let row = |number, name: &str, category: &str, kind: &str, side: Option<&str>| {
        (number, name.to_owned(), category.to_owned(), kind.to_owned(), side.map(str::to_owned))
    };
    let kidney = row(1, "right kidney", "91723000", "64033007", Some("24028007"));
    assert_eq!(described, [kidney, row(2, "thing", "85756007", "85756007", None)], "label 2 is nowhere");
}

#[test]
fn a_label_map_holds_labels_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, target) = (folder.path().join("scan"), folder.path().join("labels.dcm"));
    series(&scan);
    let labels = labels();
    let file = write(&scan, SegKind::LabelMap, &labels, &target);
    assert_eq!(text(&file, tags::SOP_CLASS_UID), uids::LABEL_MAP_SEGMENTATION_STORAGE);
    let found = frames_of(&file);
    let slices: Vec<&[u16]> = found.iter().map(|frame| &frame.4[..]).collect();
    assert_eq!(slices, [0, 1, 3].map(|slice| &labels[slice * PIXELS..][..PIXELS]));
    let segments: Vec<usize> = items(&file, tags::SEGMENT_SEQUENCE).iter().map(|s| number(s, tags::SEGMENT_NUMBER)).collect();
    assert_eq!(segments, [0, 1, 3]);
}

#[test]
fn frames_of_an_enhanced_image_are_referred_to_by_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, target) = (folder.path().join("scan"), folder.path().join("labels.dcm"));
    let object = with(patient(frames::enhanced(&[4.0, 0.0, 6.0, 2.0])), tags::SOP_INSTANCE_UID, VR::UI, "1.2.3");
    save(object, &scan);
    let file = write(&scan, SegKind::Binary, &labels(), &target);
    let frames: Vec<_> = frames_of(&file).into_iter().map(|(segment, position, uid, frame, _)| (segment, position, uid, frame)).collect();
    let row = |segment, z, frame| (Some(segment), format!("-10\\-20\\{z}"), "1.2.3".to_owned(), Some(frame));
    assert_eq!(frames, [row(1, 0, 2), row(1, 2, 4), row(1, 6, 3), row(2, 2, 4)]);
    let referenced = inside(&file, &[tags::REFERENCED_SERIES_SEQUENCE]);
    assert_eq!(items(&referenced, tags::REFERENCED_INSTANCE_SEQUENCE).len(), 1);
}

#[test]
fn a_scan_without_labels_has_one_empty_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, target) = (folder.path().join("scan"), folder.path().join("labels.dcm"));
    series(&scan);
    for kind in [SegKind::Binary, SegKind::LabelMap] {
        let found = frames_of(&write(&scan, kind, &[0; 4 * PIXELS], &target));
        assert_eq!(found.len(), 1, "{kind:?}");
        assert_eq!(found[0].4, [0; PIXELS], "{kind:?}");
    }
}

#[test]
fn images_that_cannot_be_referred_to_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let scan = folder.path().join("slice");
    let refused = |object: InMemDicomObject, expected: &str| {
        save(object, &scan);
        let error = header(&scan, SegKind::Binary).expect_err(expected);
        assert!(error.starts_with("input scan: ") && error.contains(expected), "{error}");
    };
    refused(without(image(0.0, 0.0), tags::STUDY_INSTANCE_UID), "its images have no StudyInstanceUID");
    refused(without(image(0.0, 0.0), tags::FRAME_OF_REFERENCE_UID), "its images have no FrameOfReferenceUID");
    refused(with(image(0.0, 0.0), tags::SOP_INSTANCE_UID, VR::UI, "x"), "slice 0 has the SOPClassUID");
    refused(without(image(0.0, 0.0), tags::SERIES_INSTANCE_UID), "SeriesInstanceUID is ''");
    // Two slices with one UID.
    fs::remove_file(&scan).expect("removed");
    fs::create_dir(&scan).expect("made");
    for z in [0.0, 2.0] {
        save(with(image(z, 0.0), tags::SOP_INSTANCE_UID, VR::UI, "1.2.3"), &scan.join(z.to_string()));
    }
    let error = header(&scan, SegKind::Binary).expect_err("twice");
    assert!(error.contains("two slices have the SOPInstanceUID 1.2.3"), "{error}");
}

#[test]
fn a_seg_is_known_as_ours_until_somebody_changes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, target) = (folder.path().join("scan"), folder.path().join("labels.dcm"));
    series(&scan);
    let file = write(&scan, SegKind::Binary, &labels(), &target);
    assert!(is_ours(&target));
    Targets::new(false).writes(&target).expect("as it was written");
    // Another program that keeps the preamble.
    let mut bytes = fs::read(&target).expect("read");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&target, &bytes).expect("written");
    let error = Targets::new(false).writes(&target).expect_err("changed").to_string();
    assert!(error.contains("is not as meddino wrote it"), "{error}");
    file.write_to_file(&target).expect("written");
    let error = Targets::new(false).writes(&target).expect_err("of another program").to_string();
    assert!(error.contains("meddino did not write it"), "{error}");
    let error = Volume::open(&target).expect_err("no scan").to_string();
    assert!(error.contains("holds no CT slice; 1 file: modality SEG, no CT (labels.dcm)"), "{error}");
}
