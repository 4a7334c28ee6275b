//! DICOM files and folders, as they are and as they should not be: what is read of them, what is said, what is refused.
#![cfg(feature = "readers")]

#[path = "common/dicom.rs"]
mod dicom;

use std::fs::{self, File};
use std::path::Path;

use dicom::{SIZE, ct, hu, item, put_fragments, put_pixels, put_u16, rle, save, sequence, stored, write};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use meddino::ct::{Volume, series};

/// What is read of a file or folder: its slices' HU and what it warns of.
fn read(path: &Path, choice: Option<&str>) -> Result<(Vec<Vec<f32>>, String), String> {
    let mut scan = Volume::open_series(path, choice).map_err(|e| e.to_string())?;
    let slices = (0..scan.slices()).map(|i| scan.read_slice(i).map(|slice| slice.data().to_vec())).collect::<Result<_, _>>();
    slices.map(|slices| (slices, scan.warnings().join(" | "))).map_err(|e| e.to_string())
}

/// `object` with another text in `tag`.
fn with(mut object: InMemDicomObject, tag: Tag, vr: VR, text: &str) -> InMemDicomObject {
    object.put_str(tag, vr, text);
    object
}

fn without(mut object: InMemDicomObject, tag: Tag) -> InMemDicomObject {
    object.remove_element(tag);
    object
}

fn with_u16(mut object: InMemDicomObject, tag: Tag, value: u16) -> InMemDicomObject {
    put_u16(&mut object, tag, value);
    object
}

/// A CT slice of another series.
fn other(z: f64) -> InMemDicomObject {
    let object = with(ct(z), tags::SERIES_INSTANCE_UID, VR::UI, "1.2.840.99.22");
    with(with(object, tags::SERIES_NUMBER, VR::IS, "2"), tags::SERIES_DESCRIPTION, VR::LO, "Lung")
}

fn of_modality(modality: &str) -> InMemDicomObject {
    with(with(ct(0.0), tags::SOP_CLASS_UID, VR::UI, uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE), tags::MODALITY, VR::CS, modality)
}

/// Cuts the last `bytes` bytes off.
fn cut(path: &Path, bytes: u64) {
    let file = File::options().write(true).open(path).expect("opened");
    file.set_len(file.metadata().expect("metadata").len() - bytes).expect("cut");
}

/// Either the z of each slice in order, and what is warned of; or what the error says.
type Expected = Result<(&'static [f64], &'static [&'static str]), &'static [&'static str]>;
type Case = (&'static str, fn(&Path), Expected);

#[test]
fn folders() {
    let cases: &[Case] = &[
        ("empty", |_| {}, Err(&["the folder is empty"])),
        ("text", |f| fs::write(f.join("notes.txt"), "hello").unwrap(), Err(&["holds no CT slice; 1 file: no DICOM (notes.txt)"])),
        (
            "sorted by position, not by name or number",
            |f| {
                for (name, z, number) in [("a", 5.0, "1"), ("b.dcm", 2.5, "3"), ("c.txt", 7.5, "2"), ("d", 0.0, "9")] {
                    save(with(ct(z), tags::INSTANCE_NUMBER, VR::IS, number), &f.join(name));
                }
            },
            Ok((&[0.0, 2.5, 5.0, 7.5], &[])),
        ),
        (
            "folders in folders",
            |f| {
                fs::create_dir_all(f.join("x/y")).unwrap();
                save(ct(1.0), &f.join("x/y/1"));
                save(ct(2.0), &f.join("x/1"));
                save(ct(3.0), &f.join("1"));
            },
            Ok((&[1.0, 2.0, 3.0], &[])),
        ),
        (
            "what is no CT slice",
            |f| {
                fs::write(f.join("notes.txt"), "hello").unwrap();
                fs::write(f.join("empty"), "").unwrap();
                save(with(ct(9.0), tags::SOP_CLASS_UID, VR::UI, uids::MEDIA_STORAGE_DIRECTORY_STORAGE), &f.join("DICOMDIR"));
                save(of_modality("PT"), &f.join("pet"));
                save(of_modality("MR"), &f.join("mr"));
                save(with(ct(9.0), tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER"), &f.join("scout"));
                save(with_u16(ct(9.0), tags::SAMPLES_PER_PIXEL, 3), &f.join("dose"));
                save(ct(1.0), &f.join("1"));
                save(ct(2.0), &f.join("2"));
            },
            Ok((
                &[1.0, 2.0],
                &[
                    "left out: 1 file: colour picture (dose); 1 file: localizer (scout)",
                    "2 files: no DICOM (first empty)",
                    "1 file: modality PT, no CT (pet)",
                    "1 file: modality MR",
                    "1 file: localizer (scout)",
                    "1 file: colour picture (dose)",
                ],
            )),
        ),
        ("only a PET", |f| save(of_modality("PT"), &f.join("pet")), Err(&["holds no CT slice; 1 file: modality PT, no CT (pet)"])),
        (
            "two series",
            |f| {
                (0..3).for_each(|z| save(ct(f64::from(z)), &f.join(format!("a{z}"))));
                (0..2).for_each(|z| save(other(f64::from(z)), &f.join(format!("b{z}"))));
            },
            Err(&[
                "2 CT series are there; choose one",
                "1: Lung, 2 slices of 4 x 6, 0.75 x 0.50 x 1.00 mm, UID ...22",
                "2: Thorax, 3 slices of 4 x 6, 0.75 x 0.50 x 1.00 mm, UID ...1",
            ]),
        ),
        (
            "one series in two sizes",
            |f| {
                save(ct(0.0), &f.join("a"));
                let mut wide = with_u16(ct(1.0), tags::COLUMNS, 3);
                put_pixels(&mut wide, &[0; 12]);
                save(wide, &f.join("b"));
            },
            Err(&["2 CT series are there", "1 slices of 4 x 6", "1 slices of 4 x 3"]),
        ),
        (
            "one series in two orientations",
            |f| {
                save(ct(0.0), &f.join("a"));
                save(with(ct(1.0), tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "0\\1\\0\\0\\0\\-1"), &f.join("b"));
            },
            Err(&["2 CT series are there"]),
        ),
        (
            "a missing slice",
            |f| [0.0, 2.5, 7.5, 10.0].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string()))),
            Ok((
                &[0.0, 2.5, 7.5, 10.0],
                &["slices are 2.50 mm apart, but 5.00 mm between slices 1 and 2 (at -10.0, -20.0, 2.5 mm, 1 missing)"],
            )),
        ),
        (
            "uneven",
            |f| [0.0, 1.0, 2.0, 3.02].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string()))),
            Ok((&[0.0, 1.0, 2.0, 3.02], &["slices are 1.00 mm apart, but 1.02 mm between slices 2 and 3"])),
        ),
        (
            "even within 1 %",
            |f| [0.0, 1.0, 2.0, 3.009].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string()))),
            Ok((&[0.0, 1.0, 2.0, 3.009], &[])),
        ),
        (
            "duplicates",
            |f| {
                let again = |number| with(with(ct(1.0), tags::SOP_INSTANCE_UID, VR::UI, "1.2"), tags::INSTANCE_NUMBER, VR::IS, number);
                let mut first = again("4");
                put_pixels(&mut first, &stored(6.0));
                save(again("5"), &f.join("a"));
                save(first, &f.join("b"));
                [0.0, 2.0].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string())));
            },
            Ok((&[0.0, 6.0, 2.0], &["1 of 4 slices lie where another one lies (the first at -10.0, -20.0, 1.0 mm, a) and are left out"])),
        ),
        (
            "gantry tilt",
            |f| {
                for (i, z) in [0.0, 1.0, 2.0].into_iter().enumerate() {
                    let position = format!("-10\\{}\\{z}", -20.0 + 0.26795 * z);
                    save(with(ct(z), tags::IMAGE_POSITION_PATIENT, VR::DS, &position), &f.join(i.to_string()));
                }
            },
            Ok((&[0.0, 1.0, 2.0], &["gantry tilt: slices are sheared by 15.0 degrees"])),
        ),
        (
            "off the line",
            |f| {
                for (z, x) in [(0.0, -10), (1.0, -7), (2.0, -10)] {
                    save(with(ct(z), tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("{x}\\-20\\{z}")), &f.join(z.to_string()));
                }
            },
            Ok((&[0.0, 1.0, 2.0], &["slice 1 (at -7.0, -20.0, 1.0 mm) is 3.00 mm beside it"])),
        ),
        (
            "cut off",
            |f| {
                save(ct(0.0), &f.join("a"));
                save(ct(1.0), &f.join("b"));
                cut(&f.join("b"), 1);
            },
            Err(&["b: its pixel data is cut off: 1 x 4 x 6 pixels of 16 bits need 48 bytes, 47 are there; mend the file, or move it away"]),
        ),
        (
            "cut off in a series that is not chosen",
            |f| {
                save(ct(0.0), &f.join("a"));
                save(other(1.0), &f.join("b"));
                cut(&f.join("b"), 1);
            },
            Ok((&[0.0], &[])),
        ),
        (
            "cut off before it says what it is",
            |f| {
                save(ct(0.0), &f.join("a"));
                fs::copy(f.join("a"), f.join("b")).unwrap();
                File::options().write(true).open(f.join("b")).unwrap().set_len(140).unwrap();
            },
            Ok((&[0.0], &["1 damaged files are left out, which may be slices of it; the first is b: its meta information"])),
        ),
        (
            "nothing but damage",
            |f| {
                save(ct(0.0), &f.join("a"));
                cut(&f.join("a"), 1);
            },
            Err(&["no CT slice can be read; a: its pixel data is cut off"]),
        ),
        (
            "no positions",
            |f| (0..2).for_each(|z| save(without(ct(f64::from(z)), tags::IMAGE_POSITION_PATIENT), &f.join(z.to_string()))),
            Err(&["its 2 slices have no ImagePositionPatient or no ImageOrientationPatient: their order is unknown"]),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, make, expected) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path());
        let found = read(folder.path(), None);
        let right = match (&found, expected) {
            (Ok((slices, warned)), Ok((places, warnings))) => {
                *slices == places.iter().map(|&z| hu(z)).collect::<Vec<_>>()
                    && warnings.iter().all(|warning| warned.contains(warning))
                    && warnings.is_empty() == warned.is_empty()
            }
            (Err(error), Err(parts)) => {
                error.starts_with(&format!("input {}: ", folder.path().display())) && parts.iter().all(|part| error.contains(part))
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{name}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One file, as it is or with something wrong with it: HU of the first pixel and a warning, or an error.
#[test]
fn files() {
    type Made = Box<dyn Fn() -> InMemDicomObject>;
    type Said = Result<(f32, &'static str), &'static str>;
    let text = |tag, vr, text: &'static str| -> Made { Box::new(move || with(ct(5.0), tag, vr, text)) };
    let number = |tag, value| -> Made { Box::new(move || with_u16(ct(5.0), tag, value)) };
    let none = |tag| -> Made { Box::new(move || without(ct(5.0), tag)) };
    let cases: Vec<(Made, Said)> = vec![
        (Box::new(|| ct(5.0)), Ok((-974.0, ""))),
        (text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1"), Ok((-974.0, ""))),
        (text(tags::RESCALE_SLOPE, VR::DS, "0.1"), Ok(((50.0_f64 * 0.1 - 1024.0) as f32, ""))),
        (text(tags::RESCALE_SLOPE, VR::DS, "0"), Err("RescaleSlope is 0")),
        (text(tags::RESCALE_SLOPE, VR::DS, "NaN"), Err("RescaleSlope is 'NaN': expected 1 finite numbers")),
        (text(tags::RESCALE_SLOPE, VR::DS, "1e300"), Err("these give no HU")),
        (text(tags::RESCALE_INTERCEPT, VR::DS, "inf"), Err("RescaleIntercept is 'inf'")),
        (text(tags::RESCALE_INTERCEPT, VR::DS, "1\\2"), Err("RescaleIntercept is '1\\2': expected 1 finite numbers")),
        (none(tags::RESCALE_SLOPE), Ok((-974.0, "stored values are taken as HU"))),
        (text(tags::RESCALE_TYPE, VR::LO, "HU"), Ok((-974.0, ""))),
        (text(tags::RESCALE_TYPE, VR::LO, "US"), Ok((-974.0, "RescaleType is US in place of HU"))),
        (text(tags::PIXEL_SPACING, VR::DS, "0\\0.5"), Err("PixelSpacing is [0.0, 0.5] mm")),
        (text(tags::PIXEL_SPACING, VR::DS, "-1\\0.5"), Err("PixelSpacing is [-1.0, 0.5] mm")),
        (text(tags::PIXEL_SPACING, VR::DS, "1"), Err("PixelSpacing is '1': expected 2 finite numbers")),
        (text(tags::PIXEL_SPACING, VR::DS, "nan\\1"), Err("PixelSpacing is 'nan\\1': expected 2 finite numbers")),
        (none(tags::PIXEL_SPACING), Ok((-974.0, "PixelSpacing is missing"))),
        (text(tags::IMAGE_POSITION_PATIENT, VR::DS, "1\\2"), Err("ImagePositionPatient is '1\\2': expected 3 finite numbers")),
        (text(tags::IMAGE_POSITION_PATIENT, VR::DS, "1e9\\0\\0"), Err("no patient is there")),
        (none(tags::IMAGE_POSITION_PATIENT), Ok((-974.0, "it does not say how it lies in the patient"))),
        (none(tags::IMAGE_ORIENTATION_PATIENT), Ok((-974.0, "it does not say how it lies in the patient"))),
        (text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "0\\0\\0\\0\\0\\0"), Err("expected two unit vectors at a right angle")),
        (text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\1\\0\\0"), Err("expected two unit vectors at a right angle")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "2147483647"), Err("its pixel data is cut off")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "0"), Err("NumberOfFrames is 0")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "-1"), Err("NumberOfFrames is -1")),
        (text(tags::NUMBER_OF_FRAMES, VR::IS, "two"), Err("NumberOfFrames is 'two', no integer")),
        (number(tags::ROWS, 0), Err("Rows is 0: expected 1 to 16384")),
        (number(tags::ROWS, 65_535), Err("Rows is 65535: expected 1 to 16384")),
        (number(tags::ROWS, 16_384), Err("need 196608 bytes, 48 are there")),
        (none(tags::COLUMNS), Err("Columns is missing")),
        (number(tags::BITS_ALLOCATED, 12), Err("BitsAllocated is 12: expected 8, 16 or 32")),
        (number(tags::BITS_ALLOCATED, 32), Err("need 96 bytes, 48 are there")),
        (number(tags::BITS_STORED, 12), Err("BitsStored is 12 and HighBit 15")),
        (number(tags::BITS_STORED, 0), Err("BitsStored is 0")),
        (number(tags::PIXEL_REPRESENTATION, 2), Err("PixelRepresentation is 2: expected 0 or 1")),
        (number(tags::SAMPLES_PER_PIXEL, 3), Err("colour picture")),
        (text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR"), Err("colour picture")),
        (text(tags::MODALITY, VR::CS, "MR"), Err("modality MR, no CT")),
        (text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER"), Err("localizer")),
        (none(tags::PIXEL_DATA), Err("it ends before any pixel data")),
        (number(tags::PIXEL_PADDING_VALUE, 24), Ok((-974.0, ""))),
        (none(tags::MODALITY), Ok((-974.0, ""))),
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
        (
            Box::new(|| {
                let mut object = ct(5.0);
                object.put(sequence(tags::MODALITY_LUT_SEQUENCE, vec![item([])]));
                object
            }),
            Err("its HU come by a ModalityLUTSequence"),
        ),
    ];
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
            (Err(error), Err(said)) => error.starts_with(&format!("input {}: ", path.display())) && error.contains(said),
            _ => false,
        };
        if !right {
            wrong.push(format!("case {index}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_affine_has_the_row_spacing_along_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    [4.0, 0.0, 2.0].into_iter().for_each(|z| save(ct(z), &folder.path().join(z.to_string())));
    let scan = Volume::open(folder.path()).expect("a scan");
    let affine = scan.affine().expect("an affine");
    assert_eq!(affine.rows, [[-0.75, 0.0, 0.0, 10.0], [0.0, -0.5, 0.0, 20.0], [0.0, 0.0, 2.0, 0.0]]);
    assert_eq!(
        scan.about()[..3],
        [
            ("format", "DICOM".to_string()),
            ("transfer_syntax", "Explicit VR Little Endian".to_string()),
            ("series_uid", "1.2.840.99.1".to_string()),
        ]
    );
}

#[test]
fn a_series_is_chosen_by_number_or_by_the_end_of_its_uid() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: String| folder.path().join(name);
    (0..3).for_each(|z| save(ct(f64::from(z)), &at(format!("a{z}"))));
    (5..7).for_each(|z| save(other(f64::from(z)), &at(format!("b{z}"))));
    let listed = series(folder.path()).expect("series");
    let short: Vec<_> = listed.iter().map(|s| (s.number, s.uid.as_str(), s.description.as_str(), s.slices, s.size, s.spacing)).collect();
    let spacing = Some([0.75, 0.5, 1.0]);
    assert_eq!(short, [(1, "1.2.840.99.22", "Lung", 2, SIZE, spacing), (2, "1.2.840.99.1", "Thorax", 3, SIZE, spacing)]);
    for (choice, first) in [("1", 5.0), ("2", 0.0), ("22", 5.0), (".1", 0.0), ("1.2.840.99.22", 5.0)] {
        let (slices, _) = read(folder.path(), Some(choice)).expect(choice);
        assert_eq!(slices[0], hu(first), "{choice}");
    }
    for (choice, said) in [("3", "no series is named by '3'"), ("", "no series"), ("7.7", "no series"), ("-1", "no series")] {
        let error = read(folder.path(), Some(choice)).expect_err(choice);
        assert!(error.contains(said) && error.contains("1: Lung") && error.contains("2: Thorax"), "{error}");
    }
    save(with(other(1.0), tags::SERIES_INSTANCE_UID, VR::UI, "1.9.22"), &at("c".into()));
    let error = read(folder.path(), Some("22")).expect_err("two series");
    assert!(error.contains("'22' names several series; give a number") && !error.contains("Thorax"), "{error}");
    // A choice is checked where there is nothing to choose, too.
    save(ct(0.0), &at("only".into()));
    assert!(read(&at("only".into()), Some("2")).is_err());
    assert!(read(&at("only".into()), Some("1")).is_ok());
    let error = Volume::open_series(folder.path().join("scan.npy"), Some("1")).expect_err("no DICOM").to_string();
    assert!(error.contains("scan.npy"), "{error}");
}

#[test]
fn every_way_to_write_it_gives_the_same_values() {
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
    // Without the preamble, without the magic word, and without meta information.
    save(ct(30.0), &path);
    let bytes = fs::read(&path).expect("read");
    let meta = 12 + u32::from_le_bytes(bytes[140..144].try_into().expect("four bytes")) as usize;
    for skipped in [128, 132, 132 + meta] {
        fs::write(&path, &bytes[skipped..]).expect("written");
        assert_eq!(read(&path, None).unwrap_or_else(|e| panic!("{skipped}: {e}")).0, [hu(30.0)], "{skipped}");
    }
}

/// Frames of an enhanced image, each with a place and a rescale of its own.
fn enhanced(places: &[f64]) -> InMemDicomObject {
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
    // A fragment too few: nothing says which frame each one is.
    let mut compressed = enhanced(&places);
    put_fragments(&mut compressed, places[1..].iter().map(|&z| rle(&stored(z))).collect());
    write(compressed, &path, uids::RLE_LOSSLESS);
    let error = read(&path, None).expect_err("two fragments");
    assert!(error.contains("2 fragments hold 3 frames, and no offset table says which"), "{error}");
}

#[test]
fn damaged_rle_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rle");
    let whole = rle(&stored(5.0));
    let edited = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, said) in [
        (Vec::new(), "its RLE Lossless is damaged: 0 segments"),
        (whole[..40].to_vec(), "is damaged"),
        (whole[..whole.len() - 8].to_vec(), "a segment holds"),
        (edited(0, 3), "3 segments where 2 should be"),
        (edited(0, 255), "255 segments where 2 should be"),
        (edited(4, 255), "a segment lies outside of it"),
        (edited(8, 64), "a segment holds 0 pixels where 24 should be"),
    ] {
        let mut object = ct(5.0);
        put_fragments(&mut object, vec![bytes]);
        write(object, &path, uids::RLE_LOSSLESS);
        let error = read(&path, None).expect_err(said);
        assert!(error.contains(said) && error.contains("slice 0 (rle)"), "{said}: {error}");
    }
}

#[test]
fn jpeg_ls_without_the_feature_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ls");
    let mut object = ct(5.0);
    put_fragments(&mut object, vec![vec![0xFF, 0xD8, 0xFF, 0xF7]]);
    write(object, &path, uids::JPEGLS_LOSSLESS);
    let error = read(&path, None).expect_err("no picture");
    let said = if cfg!(feature = "jpeg-ls") { "does not begin as a picture" } else { "build meddino with the feature jpeg-ls" };
    assert!(error.contains(said), "{error}");
}

/// A file of gigabytes costs no memory but that of one slice.
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
    assert!(scan.read_slice(7999).expect("the last slice").data().iter().all(|&v| v == -1024.0));
}

#[cfg(unix)]
#[test]
fn a_folder_without_read_permission() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).expect("created");
    save(ct(0.0), &folder.path().join("a"));
    save(ct(1.0), &closed.join("b"));
    let permit = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).expect("permissions");
    permit(0o000);
    if fs::read_dir(&closed).is_ok() {
        eprintln!("NOT TESTED: this user reads every folder");
    } else {
        let error = read(&closed, None).expect_err("no permission");
        assert!(error.contains("the folder cannot be read: Permission denied"), "{error}");
        let (slices, warned) = read(folder.path(), None).expect("the rest");
        assert!(slices.len() == 1 && warned.contains("the folder cannot be read: Permission denied"), "{warned}");
    }
    permit(0o700);
}

/// Bytes changed at random give an error or values, and never a panic. Each kind of file is damaged in many places, mostly in its header.
#[test]
fn damage_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fuzzed");
    let mut compressed = enhanced(&[0.0, 1.0]);
    put_fragments(&mut compressed, vec![rle(&stored(0.0)), rle(&stored(1.0))]);
    let kinds = [
        (ct(0.0), uids::EXPLICIT_VR_LITTLE_ENDIAN),
        (enhanced(&[0.0, 1.0]), uids::IMPLICIT_VR_LITTLE_ENDIAN),
        (ct(0.0), uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
        (compressed, uids::RLE_LOSSLESS),
    ];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut outcomes = [0; 2];
    for (object, syntax) in kinds {
        write(object, &path, syntax);
        let whole = fs::read(&path).expect("read");
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                let at = 128 + random(bytes.len() - 128);
                bytes[at] = [random(256) as u8, 0, 0xFF, bytes[at] ^ 1][random(4)];
            }
            if random(4) == 0 {
                bytes.truncate(random(bytes.len()));
            }
            fs::write(&path, bytes).expect("written");
            outcomes[usize::from(read(&path, None).is_ok())] += 1;
        }
    }
    assert!(outcomes.iter().all(|&n| n > 100), "errors and successes: {outcomes:?}");
}
