//! Files with many frames.

use std::fs::{self, File};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use meddino::ct::Volume;

use super::make::{ct, hu, item, put_fragments, put_pixels, put_u16, rle, save, sequence, stored, write};
use super::{read, with};

/// An enhanced image whose frames each have a position and a rescale.
pub fn enhanced(places: &[f64]) -> InMemDicomObject {
    let ds = |tag, text: &str| DataElement::new(tag, VR::DS, PrimitiveValue::from(text));
    let mut object = ct(0.0);
    for tag in
        [tags::IMAGE_POSITION_PATIENT, tags::IMAGE_ORIENTATION_PATIENT, tags::PIXEL_SPACING, tags::RESCALE_SLOPE, tags::RESCALE_INTERCEPT]
    {
        object.remove_element(tag);
    }
    object.put_str(tags::SOP_CLASS_UID, VR::UI, uids::ENHANCED_CT_IMAGE_STORAGE);
    object.put_str(tags::NUMBER_OF_FRAMES, VR::IS, places.len().to_string());
    let orientation = item([ds(tags::IMAGE_ORIENTATION_PATIENT, "1\\0\\0\\0\\1\\0")]);
    let measures = item([ds(tags::PIXEL_SPACING, "0.5\\0.75")]);
    let shared =
        item([sequence(tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation]), sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![measures])]);
    object.put(sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]));
    let frame = |(index, z): (usize, &f64)| {
        let position = item([ds(tags::IMAGE_POSITION_PATIENT, &format!("-10\\-20\\{z}"))]);
        let intercept = (-1024 - 100 * index as i32).to_string();
        let rescale = item([ds(tags::RESCALE_INTERCEPT, &intercept), ds(tags::RESCALE_SLOPE, "1")]);
        item([sequence(tags::PLANE_POSITION_SEQUENCE, vec![position]), sequence(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, vec![rescale])])
    };
    object.put(sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, places.iter().enumerate().map(frame).collect()));
    let values: Vec<u16> = places.iter().flat_map(|&z| stored(z)).collect();
    put_pixels(&mut object, &values);
    object
}

#[test]
fn frames_have_their_own_place_and_rescale() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("enhanced");
    let places = [30.0, 10.0, 20.0];
    let expected = [(10.0, 100.0), (20.0, 200.0), (30.0, 0.0)].map(|(z, less)| hu(z).iter().map(|v| v - less).collect::<Vec<f32>>());
    for syntax in [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
        write(enhanced(&places), &path, syntax);
        let (slices, warned) = read(&path, None).expect(syntax);
        assert_eq!((slices, warned.as_str()), (expected.to_vec(), ""), "{syntax}");
    }
    let mut compressed = enhanced(&places);
    put_fragments(&mut compressed, places.iter().map(|&z| rle(&stored(z))).collect());
    write(compressed, &path, uids::RLE_LOSSLESS);
    assert_eq!(read(&path, None).expect("RLE").0, expected);
    // One fragment too few: nothing tells which frame a fragment belongs to.
    let mut compressed = enhanced(&places);
    put_fragments(&mut compressed, places[1..].iter().map(|&z| rle(&stored(z))).collect());
    write(compressed, &path, uids::RLE_LOSSLESS);
    let error = read(&path, None).expect_err("two fragments");
    assert!(error.contains("2 fragments hold 3 frames, and no offset table says which"), "{error}");
}

/// Reading a file of gigabytes takes no more memory than one slice.
#[test]
fn frames_are_read_one_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("long");
    let mut object = with(ct(0.0), tags::NUMBER_OF_FRAMES, VR::IS, "1");
    object.put_str(tags::NUMBER_OF_FRAMES, VR::IS, "8000");
    put_u16(&mut object, tags::ROWS, 512);
    put_u16(&mut object, tags::COLUMNS, 512);
    object.remove_element(tags::IMAGE_POSITION_PATIENT);
    object.remove_element(tags::PIXEL_DATA);
    let places = (0..8000).map(|z| {
        let position = item([DataElement::new(tags::IMAGE_POSITION_PATIENT, VR::DS, PrimitiveValue::from(format!("0\\0\\{z}")))]);
        item([sequence(tags::PLANE_POSITION_SEQUENCE, vec![position])])
    });
    object.put(sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, places.collect()));
    save(object, &path);
    let length: u32 = 8000 * 512 * 512 * 2;
    let element = [&[0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0][..], &length.to_le_bytes()].concat();
    let header = [fs::read(&path).expect("read"), element].concat();
    fs::write(&path, &header).expect("written");
    let file = File::options().write(true).open(&path).expect("opened");
    if file.set_len(header.len() as u64 + u64::from(length)).is_err() {
        eprintln!("NOT TESTED: this file system has no sparse files of 4 GB");
        return;
    }
    let mut scan = Volume::open(&path).expect("a scan");
    assert_eq!((scan.slices(), scan.height(), scan.width()), (8000, 512, 512));
    assert!(scan.read_slice(7999).expect("the last slice").data().iter().all(|v| v.to_bits() == (-1024.0_f32).to_bits()));
}
