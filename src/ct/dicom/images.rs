//! The DICOM images that a scan was read from, for objects that refer to them.

use std::path::Path;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::element::{Elements, Event};
use super::frame::{Frame, Plane};
use super::header::Encoding;
use super::shelter::sheltered;
use crate::ct::dicom_images::{DicomImages, SliceImage, StoredText};
use crate::error::Problem;

/// The elements of the patient, the study, the frame of reference and lossy compression that a derived object has in
/// common with its images (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.4.1, C.7.6.1). All are text.
const COMMON: &[(Tag, VR)] = &[
    (tags::SPECIFIC_CHARACTER_SET, VR::CS),
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::ISSUER_OF_PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::PATIENT_AGE, VR::AS),
    (tags::PATIENT_SIZE, VR::DS),
    (tags::PATIENT_WEIGHT, VR::DS),
    (tags::PATIENT_IDENTITY_REMOVED, VR::CS),
    (tags::DEIDENTIFICATION_METHOD, VR::LO),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::STUDY_ID, VR::SH),
    (tags::FRAME_OF_REFERENCE_UID, VR::UI),
    (tags::POSITION_REFERENCE_INDICATOR, VR::LO),
    (tags::LOSSY_IMAGE_COMPRESSION, VR::CS),
    (tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS),
    (tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS),
];
/// The longest value of these elements that is read, in bytes.
const MAX_VALUE: u32 = 16 << 10;

/// Returns the images of `frames`, or `None` if a slice's place is unknown.
pub(super) fn images(frames: &[Frame]) -> Option<DicomImages> {
    let first = frames.first()?;
    let Plane { along_row, down_column, .. } = first.plane?;
    let slice = |frame: &Frame| {
        let (class, uid) = (frame.image.class.clone(), frame.image.uid.clone());
        let number = (frame.image.frames > 1).then_some(frame.index + 1);
        frame.plane.map(|plane| SliceImage { class, uid, frame: number, position: plane.position })
    };
    let format = &first.image.format;
    Some(DicomImages {
        slices: frames.iter().map(slice).collect::<Option<_>>()?,
        size: [format.rows.into(), format.columns.into()],
        spacing: first.spacing?,
        directions: [along_row, down_column],
        thickness: first.image.slice_thickness,
        series: first.image.series.clone(),
        series_number: first.image.series_number,
        first: first.image.path.clone(),
        common: sheltered(|| common(&first.image.path)).map_err(|problem| problem.to_string()),
    })
}

/// Reads the elements of [`COMMON`] that the file at `path` holds.
///
/// # Errors
/// If the file cannot be read, or a value is too long.
fn common(path: &Path) -> Result<Vec<StoredText>, Problem> {
    let (encoding, mut bytes, _) = Encoding::of(path)?;
    let mut elements = Elements::new(&mut bytes.reader, encoding.data_set(), bytes.length, encoding.writing, &[])?;
    let (mut depth, mut texts) = (0, Vec::new());
    while let Some(event) = elements.next()? {
        match event {
            Event::Pixels(_) => break,
            Event::Sequence(_) => depth += 1,
            Event::SequenceEnd => depth -= 1,
            Event::Item | Event::ItemEnd => {}
            Event::Element(element) => {
                let Some((tag, vr)) = COMMON.iter().find(|(tag, _)| depth == 0 && *tag == element.tag) else { continue };
                if element.length > MAX_VALUE {
                    return Err(format!("{tag} takes {} bytes: expected at most {MAX_VALUE}", element.length).into());
                }
                texts.push(StoredText { tag: (tag.0, tag.1), vr: (*vr).to_string(), bytes: elements.value(MAX_VALUE.into())? });
            }
        }
    }
    Ok(texts)
}
