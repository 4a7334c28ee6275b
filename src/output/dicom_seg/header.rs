//! The header of a DICOM SEG: patient and study, the images that it refers to, and its segments.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::birth::Birth;
use super::codes::{Code, SegCodes};
use super::segment::segment;
use super::settings::{SegKind, SegSettings};
use super::text::Charset;
use crate::ct::{DicomImages, StoredText};
use crate::error::{Error, Result};

/// Everything of a SEG that is known before the labels.
#[derive(Clone, Debug)]
pub struct SegHeader {
    pub(super) kind: SegKind,
    pub(super) images: Arc<DicomImages>,
    /// What the SEG has in common with the images.
    pub(super) common: Vec<StoredText>,
    pub(super) charset: Charset,
    /// The description of each label, that of the background first.
    pub(super) segments: Vec<InMemDicomObject>,
    /// The first label that has a name.
    pub(super) first: u16,
    pub(super) codes: SegCodes,
    network: String,
}

impl SegHeader {
    /// Prepares the SEG of the scan `name`, read from `images`, with the labels of `network`, of which 0 is the
    /// background. A label that no voxel can have has an empty name.
    ///
    /// # Errors
    /// If the images lack a UID that a SEG refers to, their header cannot be read, there is no label, or a name cannot
    /// be written in their character set.
    pub fn new(name: &str, images: &Arc<DicomImages>, labels: &[String], network: &str, settings: &SegSettings) -> Result<Self> {
        let header = || -> Result<Self, String> {
            let common = images.common.clone()?;
            check_references(images)?;
            for (tag, what) in [(tags::STUDY_INSTANCE_UID, "StudyInstanceUID"), (tags::FRAME_OF_REFERENCE_UID, "FrameOfReferenceUID")] {
                if text_of(&common, tag).is_none_or(|uid| uid.is_empty()) {
                    return Err(format!("its images have no {what}, which a DICOM SEG refers to; leave out `seg`"));
                }
            }
            let charset = Charset::of(&common, text_of(&common, tags::SPECIFIC_CHARACTER_SET).as_deref());
            let first = labels
                .iter()
                .skip(1)
                .position(|name| !name.is_empty())
                .ok_or("the network has no label besides the background, so that a DICOM SEG would be empty; leave out `seg`")?;
            let segments = segments(labels, network, settings, &charset)?;
            let (kind, codes, network) = (settings.kind, settings.codes.clone(), network.to_owned());
            let header = Self { kind, images: images.clone(), common, charset, segments, first: first as u16 + 1, codes, network };
            // The only other texts of a user's own.
            header.series_texts()?;
            Ok(header)
        };
        header().map_err(|problem| Error::input(name, problem))
    }

    /// Returns the segment number of each of the labels `present`, from the lowest. Numbers of binary segments count
    /// from 1 without a gap; in a label map they are the labels.
    pub(super) fn number(&self, label: u16, present: &BTreeSet<u16>) -> u16 {
        match self.kind {
            SegKind::Binary => present.range(..=label).count() as u16,
            SegKind::LabelMap => label,
        }
    }

    /// Returns the UIDs and the time of a file that is written now.
    pub(super) fn birth(&self) -> Birth {
        Birth::now(&self.images, text_of(&self.common, tags::TIMEZONE_OFFSET_FROM_UTC).as_deref())
    }

    /// Returns the description of series and content, and the creator's name.
    pub(super) fn series_texts(&self) -> Result<[InMemElement; 3], String> {
        let description = self.codes.file.series_description.as_deref().unwrap_or(&self.network);
        Ok([
            self.charset.element(tags::SERIES_DESCRIPTION, VR::LO, description)?,
            self.charset.element(tags::CONTENT_DESCRIPTION, VR::LO, description)?,
            self.charset.element(tags::CONTENT_CREATOR_NAME, VR::PN, self.codes.file.creator.as_deref().unwrap_or_default())?,
        ])
    }
}

/// Checks that every image can be referred to.
fn check_references(images: &DicomImages) -> Result<(), String> {
    let is_uid = |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !is_uid(&images.series) {
        return Err(format!("SeriesInstanceUID is '{}': expected a UID, which a DICOM SEG refers to; leave out `seg`", images.series));
    }
    let mut known = HashSet::new();
    for (index, image) in images.slices.iter().enumerate() {
        if !is_uid(&image.uid) || !is_uid(&image.class) {
            let problem = format!("slice {index} has the SOPClassUID '{}' and the SOPInstanceUID '{}'", image.class, image.uid);
            return Err(format!("{problem}: expected UIDs, which a DICOM SEG refers to; leave out `seg`"));
        }
        if !known.insert((&image.uid, image.frame)) {
            return Err(format!(
                "two slices have the SOPInstanceUID {}: expected one each, so that a DICOM SEG can refer to them; leave out `seg`",
                image.uid
            ));
        }
    }
    Ok(())
}

/// Returns the descriptions of all labels, that of the background first.
fn segments(labels: &[String], network: &str, settings: &SegSettings, charset: &Charset) -> Result<Vec<InMemDicomObject>, String> {
    let describe = |(label, name): (usize, &String)| {
        let label = label as u16;
        let mut codes = settings.codes.of(label, name);
        if label == 0 {
            let background = Code { value: "125040".into(), scheme: "DCM".into(), meaning: "Background".into() };
            (codes.category, codes.kind) = (background.clone(), background);
        }
        segment(label, name, &codes, network, charset)
    };
    labels.iter().enumerate().map(describe).collect()
}

/// Returns the ASCII text of an element, without padding.
fn text_of(common: &[StoredText], tag: Tag) -> Option<String> {
    let text = common.iter().find(|text| text.tag == (tag.0, tag.1))?;
    Some(String::from_utf8_lossy(&text.bytes).trim_matches([' ', '\0']).to_owned())
}
