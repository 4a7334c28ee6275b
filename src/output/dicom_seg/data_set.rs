//! The data set of a DICOM SEG without its pixels.

use std::collections::{BTreeSet, HashSet};

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::birth::Birth;
use super::elements::{ascii, bytes, item, sequence, shorts};
use super::frames::Kept;
use super::groups;
use super::header::SegHeader;
use super::settings::SegKind;
use crate::ct::StoredText;

/// The number that is added to the scan's SeriesNumber, so that viewers list the SEG apart from the scan.
const SERIES: i64 = 1000;
/// The elements that must be there, even if nothing is known of them (type 2).
const MAY_BE_EMPTY: [(Tag, VR); 10] = [
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_ID, VR::SH),
    (tags::POSITION_REFERENCE_INDICATOR, VR::LO),
];

/// Returns the data set without pixel data: `frames` of `bits` bits per pixel, in which the labels `present` appear.
pub(super) fn data_set(
    header: &SegHeader,
    birth: &Birth,
    frames: &[Kept],
    bits: u16,
    present: &BTreeSet<u16>,
) -> Result<InMemDicomObject, String> {
    let mut object = of_patient_and_study(header);
    put_instance(&mut object, header, birth)?;
    let [rows, columns] = header.images.size.map(|side| side as u16);
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, rows),
        (tags::COLUMNS, columns),
        (tags::BITS_ALLOCATED, bits),
        (tags::BITS_STORED, bits),
        (tags::HIGH_BIT, bits - 1),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put(shorts(tag, &[value]));
    }
    let of_kind = match header.kind {
        SegKind::Binary => "BINARY",
        SegKind::LabelMap => "LABELMAP",
    };
    for (tag, vr, text) in [
        (tags::IMAGE_TYPE, VR::CS, "DERIVED\\PRIMARY"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::SEGMENTATION_TYPE, VR::CS, of_kind),
        (tags::SEGMENTS_OVERLAP, VR::CS, "NO"),
        (tags::CONTENT_LABEL, VR::CS, "SEGMENTATION"),
        (tags::NUMBER_OF_FRAMES, VR::IS, frames.len().to_string().as_str()),
    ] {
        object.put(ascii(tag, vr, text));
    }
    if header.kind == SegKind::LabelMap {
        object.put(shorts(tags::PIXEL_PADDING_VALUE, &[0]));
    }
    object.put(sequence(tags::SEGMENT_SEQUENCE, described(header, present)));
    groups::put(&mut object, header, birth, frames, present)?;
    Ok(object)
}

/// Returns the descriptions of the labels `present`. A binary segment that is nowhere is left out, because each of
/// its frames would be empty.
fn described(header: &SegHeader, present: &BTreeSet<u16>) -> Vec<InMemDicomObject> {
    let background = (header.kind == SegKind::LabelMap).then_some(0);
    let describe = |label: u16| {
        let mut segment = header.segments[usize::from(label)].clone();
        segment.put(shorts(tags::SEGMENT_NUMBER, &[header.number(label, present)]));
        segment
    };
    background.into_iter().chain(present.iter().copied()).map(describe).collect()
}

/// Returns what the SEG has in common with the images, and empty elements where they say nothing.
fn of_patient_and_study(header: &SegHeader) -> InMemDicomObject {
    let mut object = item(MAY_BE_EMPTY.map(|(tag, vr)| DataElement::new(tag, vr, PrimitiveValue::Empty)));
    object.put(ascii(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "00"));
    for StoredText { tag, vr, bytes: value } in &header.common {
        let vr = vr.parse().expect("a value representation of the standard");
        object.put(bytes(Tag(tag.0, tag.1), vr, value.clone()));
    }
    if header.charset.name().is_empty() {
        object.remove_element(tags::SPECIFIC_CHARACTER_SET);
    } else {
        object.put(ascii(tags::SPECIFIC_CHARACTER_SET, VR::CS, header.charset.name()));
    }
    object
}

/// Puts the series, the equipment, the instance and its references.
fn put_instance(object: &mut InMemDicomObject, header: &SegHeader, birth: &Birth) -> Result<(), String> {
    let number = header.codes.series_number()?.map_or_else(|| header.images.series_number.unwrap_or(0) + SERIES, i64::from);
    let [date, time] = birth.date_and_time();
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, header.kind.class()),
        (tags::SOP_INSTANCE_UID, VR::UI, birth.instance().as_str()),
        (tags::MODALITY, VR::CS, "SEG"),
        (tags::SERIES_INSTANCE_UID, VR::UI, birth.uid("series").as_str()),
        (tags::SERIES_NUMBER, VR::IS, number.to_string().as_str()),
        (tags::SERIES_DATE, VR::DA, date.as_str()),
        (tags::SERIES_TIME, VR::TM, time.as_str()),
        (tags::CONTENT_DATE, VR::DA, date.as_str()),
        (tags::CONTENT_TIME, VR::TM, time.as_str()),
        (tags::INSTANCE_NUMBER, VR::IS, "1"),
        (tags::MANUFACTURER, VR::LO, "meddino"),
        (tags::MANUFACTURER_MODEL_NAME, VR::LO, "meddino"),
        (tags::DEVICE_SERIAL_NUMBER, VR::LO, "unknown"),
        (tags::SOFTWARE_VERSIONS, VR::LO, env!("CARGO_PKG_VERSION")),
    ] {
        object.put(ascii(tag, vr, text));
    }
    header.series_texts()?.into_iter().for_each(|element| drop(object.put(element)));
    let mut known = HashSet::new();
    let instances = header.images.slices.iter().filter(|image| known.insert(&image.uid)).map(|image| {
        item([ascii(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &image.class), ascii(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &image.uid)])
    });
    let series = item([
        ascii(tags::SERIES_INSTANCE_UID, VR::UI, &header.images.series),
        sequence(tags::REFERENCED_INSTANCE_SEQUENCE, instances.collect()),
    ]);
    object.put(sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![series]));
    Ok(())
}
