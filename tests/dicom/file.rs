//! Single files, valid and defective.

use std::fs;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::make::{ct, hu, item, put_fragments, put_pixels, rle, save, sequence, stored, write};
use super::{read, with, with_u16, without};

type Make = Box<dyn Fn() -> InMemDicomObject>;
/// The expected HU of the first pixel and a part of the warnings, or a part of the error.
type Expected = Result<(f32, &'static str), &'static str>;

fn text(tag: Tag, vr: VR, text: &'static str) -> Make {
    Box::new(move || with(ct(5.0), tag, vr, text))
}

fn number(tag: Tag, value: u16) -> Make {
    Box::new(move || with_u16(ct(5.0), tag, value))
}

fn missing(tag: Tag) -> Make {
    Box::new(move || without(ct(5.0), tag))
}

#[test]
fn values_become_hu_or_are_refused() {
    check(&[
        (Box::new(|| ct(5.0)), Ok((-974.0, ""))),
        (text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1"), Ok((-974.0, ""))),
        (text(tags::RESCALE_SLOPE, VR::DS, "0.1"), Ok(((50.0_f64 * 0.1 - 1024.0) as f32, ""))),
        (text(tags::RESCALE_SLOPE, VR::DS, "0"), Err("RescaleSlope is 0")),
        (text(tags::RESCALE_SLOPE, VR::DS, "NaN"), Err("RescaleSlope is 'NaN': expected 1 finite numbers")),
        (text(tags::RESCALE_SLOPE, VR::DS, "1e300"), Err("these give no HU")),
        (text(tags::RESCALE_INTERCEPT, VR::DS, "inf"), Err("RescaleIntercept is 'inf'")),
        (text(tags::RESCALE_INTERCEPT, VR::DS, "1\\2"), Err("RescaleIntercept is '1\\2': expected 1 finite numbers")),
        (missing(tags::RESCALE_SLOPE), Ok((-974.0, "stored values are taken as HU"))),
        (text(tags::RESCALE_TYPE, VR::LO, "HU"), Ok((-974.0, ""))),
        (text(tags::RESCALE_TYPE, VR::LO, "US"), Ok((-974.0, "RescaleType is US in place of HU"))),
        (text(tags::MODALITY, VR::CS, "MR"), Err("modality MR, no CT")),
        (number(tags::PIXEL_PADDING_VALUE, 24), Ok((-974.0, ""))),
        (missing(tags::MODALITY), Ok((-974.0, ""))),
        (
            Box::new(|| with(with_u16(ct(5.0), tags::PIXEL_PADDING_VALUE, 50), tags::RESCALE_INTERCEPT, VR::DS, "-50")),
            Ok((0.0, "pixels of PixelPaddingValue are kept at 0 HU")),
        ),
        (
            Box::new(|| with(with_u16(ct(5.0), tags::PIXEL_PADDING_VALUE, 50), tags::RESCALE_INTERCEPT, VR::DS, "4000")),
            Ok((-1000.0, "would be 4050 HU, are set to air (-1000 HU)")),
        ),
        (
            Box::new(|| {
                let mut object = ct(5.0);
                object.put(sequence(tags::MODALITY_LUT_SEQUENCE, vec![item([])]));
                object
            }),
            Err("its HU come by a ModalityLUTSequence"),
        ),
    ]);
}

#[test]
fn the_position_in_the_patient_is_checked() {
    check(&[
        (text(tags::PIXEL_SPACING, VR::DS, "0\\0.5"), Err("PixelSpacing is [0.0, 0.5] mm")),
        (text(tags::PIXEL_SPACING, VR::DS, "-1\\0.5"), Err("PixelSpacing is [-1.0, 0.5] mm")),
        (text(tags::PIXEL_SPACING, VR::DS, "1"), Err("PixelSpacing is '1': expected 2 finite numbers")),
        (text(tags::PIXEL_SPACING, VR::DS, "nan\\1"), Err("PixelSpacing is 'nan\\1': expected 2 finite numbers")),
        (missing(tags::PIXEL_SPACING), Ok((-974.0, "PixelSpacing is missing"))),
        (text(tags::IMAGE_POSITION_PATIENT, VR::DS, "1\\2"), Err("ImagePositionPatient is '1\\2': expected 3 finite numbers")),
        (text(tags::IMAGE_POSITION_PATIENT, VR::DS, "1e9\\0\\0"), Err("no patient is there")),
        (missing(tags::IMAGE_POSITION_PATIENT), Ok((-974.0, "it does not state its orientation"))),
        (missing(tags::IMAGE_ORIENTATION_PATIENT), Ok((-974.0, "it does not state its orientation"))),
        (text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "0\\0\\0\\0\\0\\0"), Err("expected two unit vectors at a right angle")),
        (text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\1\\0\\0"), Err("expected two unit vectors at a right angle")),
    ]);
}

#[test]
fn pixels_match_the_header_or_are_refused() {
    check(&[
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "65536"), Err("its pixel data is cut off")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "65537"), Err("NumberOfFrames is 65537: expected 1 to 65536")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "0"), Err("NumberOfFrames is 0")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "-1"), Err("NumberOfFrames is -1")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "two"), Err("NumberOfFrames is 'two', no integer")),
        (number(tags::ROWS, 0), Err("Rows is 0: expected 1 to 16384")),
        (number(tags::ROWS, 65_535), Err("Rows is 65535: expected 1 to 16384")),
        (number(tags::ROWS, 16_384), Err("need 196608 bytes, 48 are there")),
        (missing(tags::COLUMNS), Err("Columns is missing")),
        (number(tags::BITS_ALLOCATED, 12), Err("BitsAllocated is 12: expected 8, 16 or 32")),
        (number(tags::BITS_ALLOCATED, 32), Err("need 96 bytes, 48 are there")),
        (number(tags::BITS_STORED, 12), Err("BitsStored is 12 and HighBit 15")),
        (number(tags::BITS_STORED, 0), Err("BitsStored is 0")),
        (number(tags::PIXEL_REPRESENTATION, 2), Err("PixelRepresentation is 2: expected 0 or 1")),
        (number(tags::SAMPLES_PER_PIXEL, 3), Err("colour picture")),
        (text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR"), Err("colour picture")),
        (text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER"), Err("localizer")),
        (missing(tags::PIXEL_DATA), Err("it ends before any pixel data")),
        (
            Box::new(|| {
                let mut object = with_u16(with_u16(ct(5.0), tags::BITS_STORED, 12), tags::HIGH_BIT, 11);
                put_pixels(&mut object, &[0xF001; 24]);
                object
            }),
            Ok((-1023.0, "")),
        ),
        (
            Box::new(|| {
                let mut object = with_u16(ct(5.0), tags::PIXEL_REPRESENTATION, 1);
                put_pixels(&mut object, &[0xFFFF; 24]);
                object
            }),
            Ok((-1025.0, "")),
        ),
        (
            Box::new(|| {
                let mut object = with_u16(with_u16(with_u16(ct(5.0), tags::BITS_ALLOCATED, 8), tags::BITS_STORED, 8), tags::HIGH_BIT, 7);
                object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8([200; 24][..].into())));
                object
            }),
            Ok((-824.0, "")),
        ),
    ]);
}

fn check(cases: &[(Make, Expected)]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("slice");
    let mut wrong = Vec::new();
    for (index, (make, expected)) in cases.iter().enumerate() {
        save(make(), &path);
        let found = read(&path, None);
        let right = match (&found, expected) {
            (Ok((slices, warned)), Ok((first, warning))) => {
                slices.len() == 1
                    && slices[0][0].to_bits() == first.to_bits()
                    && warned.contains(warning)
                    && warning.is_empty() == warned.is_empty()
            }
            (Err(error), Err(expected)) => error.starts_with(&format!("input {}: ", path.display())) && error.contains(expected),
            _ => false,
        };
        if !right {
            wrong.push(format!("case {index}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_encoding_gives_the_same_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("slice");
    let ways = [
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.2", // Explicit VR Big Endian, retired
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ];
    for syntax in ways {
        write(ct(30.0), &path, syntax);
        assert_eq!(read(&path, None).expect(syntax).0, [hu(30.0)], "{syntax}");
    }
    let mut compressed = ct(30.0);
    put_fragments(&mut compressed, vec![rle(&stored(30.0))]);
    write(compressed, &path, uids::RLE_LOSSLESS);
    assert_eq!(read(&path, None).expect("RLE").0, [hu(30.0)]);
    // Without the preamble, without the magic word, and without the meta information.
    save(ct(30.0), &path);
    let bytes = fs::read(&path).expect("read");
    let meta = 12 + u32::from_le_bytes(bytes[140..144].try_into().expect("four bytes")) as usize;
    for skipped in [128, 132, 132 + meta] {
        fs::write(&path, &bytes[skipped..]).expect("written");
        assert_eq!(read(&path, None).unwrap_or_else(|e| panic!("{skipped}: {e}")).0, [hu(30.0)], "{skipped}");
    }
}
