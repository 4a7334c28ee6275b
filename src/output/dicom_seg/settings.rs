//! The settings of DICOM SEG.

use dicom_dictionary_std::uids;

use super::codes::SegCodes;

/// The kind of DICOM SEG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegKind {
    /// Segmentation Storage: one frame of bits for each label of a slice. Every viewer of SEG reads it.
    #[default]
    Binary,
    /// Label Map Segmentation Storage, of 2024: one frame of labels for each slice.
    LabelMap,
}

impl SegKind {
    /// Returns the SOP class.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Binary => uids::SEGMENTATION_STORAGE,
            Self::LabelMap => uids::LABEL_MAP_SEGMENTATION_STORAGE,
        }
    }
}

/// The settings of DICOM SEG.
#[derive(Clone, Debug, Default)]
pub struct SegSettings {
    /// The kind.
    pub kind: SegKind,
    /// The codes of the labels.
    pub codes: SegCodes,
}

impl SegSettings {
    /// Returns a text that differs for settings that give different files.
    pub fn text(&self) -> String {
        format!("seg {:?} {}", self.kind, self.codes.sha256())
    }
}
