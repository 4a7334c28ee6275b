//! Damaged files.

use std::fs;

use dicom_dictionary_std::uids;

use super::frames::enhanced;
use super::make::{ct, put_fragments, rle, stored, write};
use super::odd::oddities;
use super::read;

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
    for (bytes, expected) in [
        (Vec::new(), "its RLE Lossless is damaged: 0 segments"),
        (whole[..40].to_vec(), "is damaged"),
        (whole[..whole.len() - 8].to_vec(), "a segment holds"),
        (edited(0, 3), "3 segments where 2 should be"),
        (edited(0, 255), "255 segments where 2 should be"),
        (edited(4, 255), "a segment is outside of it"),
        (edited(8, 64), "a segment holds 0 pixels where 24 should be"),
    ] {
        let mut object = ct(5.0);
        put_fragments(&mut object, vec![bytes]);
        write(object, &path, uids::RLE_LOSSLESS);
        let error = read(&path, None).expect_err(expected);
        assert!(error.contains(expected) && error.contains("slice 0 (rle)"), "{expected}: {error}");
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
    let expected = if cfg!(feature = "jpeg-ls") { "does not begin as a picture" } else { "build meddino with the feature jpeg-ls" };
    assert!(error.contains(expected), "{error}");
}

/// Bytes changed at random must give an error or values, and never a panic. Each kind of file is damaged in many
/// places, mostly in its header.
#[test]
fn damage_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fuzzed");
    let mut compressed = enhanced(&[0.0, 1.0]);
    put_fragments(&mut compressed, vec![rle(&stored(0.0)), rle(&stored(1.0))]);
    let written = |object, syntax| {
        write(object, &path, syntax);
        fs::read(&path).expect("read")
    };
    let kinds = [
        written(ct(0.0), uids::EXPLICIT_VR_LITTLE_ENDIAN),
        written(enhanced(&[0.0, 1.0]), uids::IMPLICIT_VR_LITTLE_ENDIAN),
        written(ct(0.0), uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
        written(compressed, uids::RLE_LOSSLESS),
        oddities(),
    ];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut outcomes = [0; 2];
    for whole in kinds {
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
