//! The DICOM images that a scan was read from, for objects that refer to them.

use std::path::PathBuf;

/// The DICOM images behind a scan's slices, in the order of the slices.
#[derive(Clone, Debug)]
pub struct DicomImages {
    /// The images.
    pub slices: Vec<SliceImage>,
    /// Rows and columns of each image.
    pub size: [usize; 2],
    /// Millimetres between rows and between columns.
    pub spacing: [f64; 2],
    /// The direction along a row and the direction down a column, in DICOM's axes (to the left, to posterior, to
    /// superior).
    pub directions: [[f64; 3]; 2],
    /// The thickness of a slice in mm, if the images state it.
    pub thickness: Option<f64>,
    /// SeriesInstanceUID.
    pub series: String,
    /// SeriesNumber.
    pub series_number: Option<i64>,
    /// The file of the first image.
    pub first: PathBuf,
    /// The elements of patient, study, frame of reference and lossy compression that the first image holds, in the order
    /// of their tags; or why they cannot be taken over.
    pub common: Result<Vec<StoredText>, String>,
}

/// The image of one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceImage {
    /// SOPClassUID.
    pub class: String,
    /// SOPInstanceUID.
    pub uid: String,
    /// The frame of a file of many frames, from 1.
    pub frame: Option<u32>,
    /// The centre of the first pixel, in mm, in DICOM's axes.
    pub position: [f64; 3],
}

/// An element as its file stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredText {
    /// Group and element.
    pub tag: (u16, u16),
    /// The value representation, such as `PN`.
    pub vr: &'static str,
    /// The text, in the file's own character set.
    pub bytes: Vec<u8>,
}
