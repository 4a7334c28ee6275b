//! Writes small DICOM files for the tests.

use std::path::Path;

use dicom_core::value::{DataSetSequence, PixelFragmentSequence};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// Rows and columns of [`ct`].
pub const SIZE: [usize; 2] = [4, 6];

/// An axial CT slice at `z` mm, with 0.5 mm between rows and 0.75 mm between columns. Stored pixels count up from 10 z,
/// and HU = stored - 1024.
pub fn ct(z: f64) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
        (tags::SERIES_DESCRIPTION, VR::LO, "Thorax"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.840.99.1"),
        (tags::SERIES_NUMBER, VR::IS, "3"),
        (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0"),
        (tags::PIXEL_SPACING, VR::DS, "0.5\\0.75"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::RESCALE_INTERCEPT, VR::DS, "-1024"),
    ] {
        object.put_str(tag, vr, text);
    }
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.840.99.9.{}", (z * 1000.0) as i64 + 1_000_000));
    object.put_str(tags::IMAGE_POSITION_PATIENT, VR::DS, format!("-10\\-20\\{z}"));
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, SIZE[0] as u16),
        (tags::COLUMNS, SIZE[1] as u16),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        put_u16(&mut object, tag, value);
    }
    put_pixels(&mut object, &stored(z));
    object
}

/// The stored values of [`ct`].
pub fn stored(z: f64) -> Vec<u16> {
    (0..(SIZE[0] * SIZE[1]) as u16).map(|i| (10.0 * z) as u16 + i).collect()
}

/// The HU of [`ct`].
pub fn hu(z: f64) -> Vec<f32> {
    stored(z).iter().map(|&v| f32::from(v) - 1024.0).collect()
}

pub fn put_u16(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

pub fn put_pixels(object: &mut InMemDicomObject, values: &[u16]) {
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(values.into())));
}

/// Puts encapsulated pixel data of these fragments, without an offset table.
pub fn put_fragments(object: &mut InMemDicomObject, fragments: Vec<Vec<u8>>) {
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PixelFragmentSequence::new_fragments(fragments)));
}

/// A sequence of items.
pub fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
}

/// A data set of elements.
pub fn item(elements: impl IntoIterator<Item = InMemElement>) -> InMemDicomObject {
    InMemDicomObject::from_element_iter(elements)
}

/// A frame of 16-bit values in RLE Lossless, encoded as runs where values repeat.
pub fn rle(values: &[u16]) -> Vec<u8> {
    let pack = |plane: Vec<u8>| {
        let mut packed = Vec::new();
        let mut rest = &plane[..];
        while let [first, ..] = *rest {
            let run = rest.iter().take(128).take_while(|&&byte| byte == first).count();
            if run > 1 {
                packed.extend([(257 - run) as u8, first]);
                rest = &rest[run..];
            } else {
                packed.extend([0, first]);
                rest = &rest[1..];
            }
        }
        packed.resize(packed.len().next_multiple_of(2), 0);
        packed
    };
    let high = pack(values.iter().map(|v| (v >> 8) as u8).collect());
    let low = pack(values.iter().map(|&v| v as u8).collect());
    let mut header = [2_u32, 64, 64 + high.len() as u32].map(u32::to_le_bytes).concat();
    header.resize(64, 0);
    [header, high, low].concat()
}

/// Writes the file in the transfer syntax `syntax`.
pub fn write(object: InMemDicomObject, path: &Path, syntax: &str) {
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    object.with_meta(meta).expect("meta information").write_to_file(path).expect("written");
}

/// Writes the file in Explicit VR Little Endian.
pub fn save(object: InMemDicomObject, path: &Path) {
    write(object, path, uids::EXPLICIT_VR_LITTLE_ENDIAN);
}
