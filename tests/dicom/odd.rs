//! Files that violate the standard in ways that scanners and archives really produce.

use std::fs;
use std::path::Path;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::frames::enhanced;
use super::make::{ct, hu, put_fragments, rle, save, stored, write};
use super::{read, with};

const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;
const BIG: &str = "1.2.840.10008.1.2.2";

/// The file's bytes up to its data set, and the data set.
fn parts(object: InMemDicomObject, syntax: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("whole");
    write(object, &path, syntax);
    let mut head = fs::read(&path).expect("read");
    let meta = 144 + u32::from_le_bytes(head[140..144].try_into().expect("four bytes")) as usize;
    let body = head.split_off(meta);
    (head, body)
}

/// An element in Explicit VR Little Endian with a length of 16 bits.
fn short(tag: [u8; 4], vr: &[u8], value: &[u8]) -> Vec<u8> {
    [&tag[..], vr, &(value.len() as u16).to_le_bytes(), value].concat()
}

/// An element in Explicit VR Little Endian with a length of 32 bits.
fn long(tag: [u8; 4], vr: &[u8], length: u32, value: &[u8]) -> Vec<u8> {
    [&tag[..], vr, &[0, 0], &length.to_le_bytes()[..], value].concat()
}

/// An element in Implicit VR Little Endian.
fn implicit(tag: [u8; 4], value: &[u8]) -> Vec<u8> {
    [&tag, &(value.len() as u32).to_le_bytes()[..], value].concat()
}

const ITEM: [u8; 4] = [0xFE, 0xFF, 0, 0xE0];
const UNDEFINED: u32 = u32::MAX;
const ITEM_END: [u8; 8] = [0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0];
const SEQUENCE_END: [u8; 8] = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
const PRIVATE: [u8; 4] = [9, 0, 1, 0x10];

/// Inserts `raw` before the first element of group 0020, and checks that the slice reads as it does without `raw`.
fn reads_with(name: &str, raw: &[u8]) {
    let (head, body) = parts(ct(30.0), EXPLICIT);
    let at = body.windows(4).position(|bytes| bytes == [0x20, 0, 0x0E, 0]).expect("the series' UID");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd");
    fs::write(&path, [&head, &body[..at], raw, &body[at..]].concat()).expect("written");
    let (slices, warned) = read(&path, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!((slices, warned.as_str()), (vec![hu(30.0)], ""), "{name}");
}

/// CP-246: a writer that does not know a sequence stores it as UN of undefined length, with items in Implicit VR Little
/// Endian.
#[test]
fn un_of_undefined_length_holds_implicit_items() {
    let inner = [implicit(PRIVATE, b"X "), implicit([8, 0, 8, 0], b"ORIGINAL")].concat();
    let item = implicit(ITEM, &inner);
    let open_item = [&ITEM[..], &UNDEFINED.to_le_bytes(), &inner, &ITEM_END].concat();
    let nested = implicit(ITEM, &[&[9, 0, 2, 0x10], &UNDEFINED.to_le_bytes()[..], &open_item, &SEQUENCE_END].concat());
    let explicit_inside = implicit(ITEM, &[short(PRIVATE, b"LO", b"X "), short([9, 0, 2, 0x10], b"US", &[1, 0])].concat());
    let open_explicit = [&ITEM[..], &UNDEFINED.to_le_bytes(), &short([8, 0, 8, 0], b"CS", b"ORIGINAL"), &ITEM_END].concat();
    for (name, items) in [
        ("none", &[][..]),
        ("an item", &item),
        ("an open item", &open_item),
        ("nested", &nested),
        ("explicit items", &explicit_inside),
        ("an open explicit item", &open_explicit),
    ] {
        // With a private and with a public tag.
        for tag in [PRIVATE, [0x08, 0, 0x40, 0x11]] {
            reads_with(name, &[long(tag, b"UN", UNDEFINED, items), SEQUENCE_END.to_vec()].concat());
            reads_with(name, &long(tag, b"UN", items.len() as u32, items));
        }
    }
    // A private sequence, with and without a delimiter, whose items hold another position, which must be ignored.
    let position = implicit(ITEM, &short([0x20, 0, 0x32, 0], b"DS", b"1\\2\\3 "));
    reads_with("position", &long(PRIVATE, b"SQ", position.len() as u32, &position));
    reads_with("position", &[long(PRIVATE, b"SQ", UNDEFINED, &position), SEQUENCE_END.to_vec()].concat());
    // Fragments outside the file's pixel data: a compressed icon.
    let fragments = [implicit(ITEM, b""), implicit(ITEM, &[0xFF, 0xD8, 1, 2]), SEQUENCE_END.to_vec()].concat();
    let icon = [&implicit(ITEM, &[long([0xE0, 0x7F, 0x10, 0], b"OB", UNDEFINED, &fragments)].concat())[..]].concat();
    reads_with("icon", &[long([0x88, 0, 0, 2], b"SQ", UNDEFINED, &icon), SEQUENCE_END.to_vec()].concat());
    reads_with("private fragments", &long(PRIVATE, b"OB", UNDEFINED, &fragments));
}

/// A slice with every odd feature of this file, for [`super::hostile`].
pub fn oddities() -> Vec<u8> {
    let (_, body) = parts(ct(30.0), EXPLICIT);
    let inner = implicit(ITEM, &implicit(PRIVATE, b"X "));
    let odd = [
        long(PRIVATE, b"UN", UNDEFINED, &inner),
        SEQUENCE_END.to_vec(),
        short([9, 0, 2, 0x10], b"ZZ", b"1234"),
        implicit([9, 0, 3, 0x10], b"12345678"),
        long([9, 0, 4, 0x10], b"OB", UNDEFINED, &[implicit(ITEM, b"1234"), SEQUENCE_END.to_vec()].concat()),
    ];
    let at = body.windows(4).position(|bytes| bytes == [0x20, 0, 0x0E, 0]).expect("the series' UID");
    [&[0; 128][..], b"DICM", &body[..at], &odd.concat(), &body[at..]].concat()
}

/// Nested sequences must end in an error, and cost little time before it.
#[test]
fn sequences_do_not_nest_without_end() {
    let (head, body) = parts(ct(30.0), EXPLICIT);
    let level = [long(PRIVATE, b"SQ", UNDEFINED, &[]), ITEM.to_vec(), UNDEFINED.to_le_bytes().to_vec()].concat();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep");
    fs::write(&path, [&head[..], &level.repeat(100_000), &body].concat()).expect("written");
    let error = read(&path, None).expect_err("too deep");
    assert!(error.contains("damaged before its pixel data: its sequences nest without end"), "{error}");
    for (raw, expected) in [
        (ITEM_END.to_vec(), "a stray element (FFFE,E00D) is at byte"),
        (SEQUENCE_END.to_vec(), "a stray element (FFFE,E0DD) is at byte"),
        (long(PRIVATE, b"SQ", UNDEFINED, &short(PRIVATE, b"LO", b"X ")), "element (0009,1001) is where an item should begin"),
        (long([0, 0x52, 0x30, 0x92], b"SQ", 8, &implicit(ITEM, &[0; 100])[..8]), "a sequence or item at byte"),
        (long(PRIVATE, b"OB", 1 << 30, b""), "element (0009,1001) claims 1073741824 bytes where"),
    ] {
        fs::write(&path, [&head[..], &raw, &body].concat()).expect("written");
        let error = read(&path, None).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

/// An archive that does not know functional groups stores them as UN. The frames' positions and rescales must be read.
#[test]
fn functional_groups_in_un_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("enhanced");
    write(enhanced(&[30.0, 10.0, 20.0]), &path, EXPLICIT);
    let expected = read(&path, None).expect("frames").0;
    // Implicit VR writes no VR, so these bytes are the content of the UN element.
    let (head, _) = parts(enhanced(&[30.0, 10.0, 20.0]), EXPLICIT);
    let (_, plain) = parts(enhanced(&[30.0, 10.0, 20.0]), IMPLICIT);
    let (_, body) = parts(enhanced(&[30.0, 10.0, 20.0]), EXPLICIT);
    let find = |body: &[u8], tag: [u8; 4]| body.windows(4).position(|bytes| bytes == tag).expect("a tag");
    let (groups, frames, pixels) = ([0, 0x52, 0x29, 0x92], [0, 0x52, 0x30, 0x92], [0xE0, 0x7F, 0x10, 0]);
    let value = |from, to| &plain[find(&plain, from) + 8..find(&plain, to)];
    let un = |tag, value: &[u8]| long(tag, b"UN", UNDEFINED, value);
    let odd = [
        &head,
        &body[..find(&body, groups)],
        &un(groups, value(groups, frames)),
        &un(frames, value(frames, pixels)),
        &body[find(&body, pixels)..],
    ]
    .concat();
    fs::write(&path, &odd).expect("written");
    assert_eq!(read(&path, None).expect("frames in UN").0, expected);
    // With a length instead of a delimiter.
    let closed = |tag, value: &[u8]| long(tag, b"UN", value.len() as u32 - 8, &value[..value.len() - 8]);
    let odd = [
        &head,
        &body[..find(&body, groups)],
        &closed(groups, value(groups, frames)),
        &closed(frames, value(frames, pixels)),
        &body[find(&body, pixels)..],
    ]
    .concat();
    fs::write(&path, &odd).expect("written");
    assert_eq!(read(&path, None).expect("frames in UN of a length").0, expected);
}

#[test]
fn an_unknown_vr_is_bytes() {
    reads_with("short", &short(PRIVATE, b"ZZ", b"1234"));
    reads_with("short and empty", &short(PRIVATE, b"ZZ", b""));
    reads_with("long", &long(PRIVATE, b"ZZ", 6, b"123456"));
    reads_with("none at all", &implicit(PRIVATE, b"12345678"));
    reads_with("none, in two elements", &[implicit(PRIVATE, b"1234"), implicit([9, 0, 2, 0x10], b"")].concat());
    reads_with("question marks", &short(PRIVATE, b"??", b"12"));
    reads_with("question marks, long", &long(PRIVATE, b"??", 2, b"12"));
    // A length beyond the end of the file is damage, and must not start a search.
    let (head, body) = parts(ct(30.0), EXPLICIT);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd");
    fs::write(&path, [&head[..], &long(PRIVATE, b"ZZ", 1 << 30, b""), &body].concat()).expect("written");
    let error = read(&path, None).expect_err("beyond the file");
    assert!(error.contains("damaged before its pixel data: element (0009,1001) has the unknown VR \"ZZ\""), "{error}");
}

/// Reads `bytes` as a file and checks its values. Returns the warnings.
fn reads(name: &str, bytes: &[u8], path: &Path) -> String {
    fs::write(path, bytes).expect("written");
    let (slices, warned) = read(path, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(slices, [hu(30.0)], "{name}");
    warned
}

#[test]
fn meta_information_may_be_missing_or_name_no_transfer_syntax() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd");
    let preamble = [&[0; 128][..], b"DICM"].concat();
    for syntax in [EXPLICIT, IMPLICIT, BIG] {
        let (_, body) = parts(ct(30.0), syntax);
        assert_eq!(reads(syntax, &[&preamble[..], &body].concat(), &path), "", "{syntax}, no group 2");
        assert_eq!(reads(syntax, &body, &path), "", "{syntax}, bare");
        let class = short([2, 0, 2, 0], b"UI", b"1.2.840.10008.5.1.4.1.1.2\0");
        assert_eq!(reads(syntax, &[&preamble[..], &class, &body].concat(), &path), "", "{syntax}, no transfer syntax");
        let named = implicit([2, 0, 0x10, 0], format!("{syntax}\0").as_bytes());
        assert_eq!(reads(syntax, &[&preamble[..], &named, &body].concat(), &path), "", "{syntax}, group 2 without VRs");
        assert_eq!(reads(syntax, &[&named[..], &body].concat(), &path), "", "{syntax}, no preamble, group 2 without VRs");
    }
    for (bytes, expected) in [
        (preamble.clone(), "it ends where its data set should begin"),
        ([&preamble[..], &short([2, 0, 0x10, 0], b"UI", b"1.2.840.10008.1.2\0")].concat(), "it ends where its data set should begin"),
        ([&preamble[..], &[2, 0, 0x10, 0, b'U', b'I', 99, 0, 1, 2]].concat(), "its meta information is damaged"),
    ] {
        fs::write(&path, bytes).expect("written");
        let error = read(&path, None).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_wrong_transfer_syntax_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd");
    for claimed in [EXPLICIT, IMPLICIT, BIG, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
        let (head, _) = parts(ct(30.0), claimed);
        for (written, name) in
            [(EXPLICIT, "Explicit VR Little Endian"), (IMPLICIT, "Implicit VR Little Endian"), (BIG, "Explicit VR Big Endian")]
        {
            // Deflated bytes can begin with anything, so only bytes that begin like an element are recognised.
            if written == claimed || (claimed == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN && written != EXPLICIT) {
                continue;
            }
            let (_, body) = parts(ct(30.0), written);
            let warned = reads(&format!("{claimed}, {written}"), &[head.clone(), body].concat(), &path);
            assert!(warned.contains(&format!("but it is written in {name} and is read as such (in 1 of 1 slices)")), "{claimed}: {warned}");
        }
    }
    // Wrong for the pixels: decompressed under the old syntax, compressed under an uncompressed one, and under another
    // codec's.
    let (compressed, _) = parts(ct(30.0), uids::RLE_LOSSLESS);
    let (plain, body) = parts(ct(30.0), EXPLICIT);
    let mut packed = ct(30.0);
    put_fragments(&mut packed, vec![rle(&stored(30.0))]);
    let (_, packed) = parts(packed, uids::RLE_LOSSLESS);
    let warned = reads("decompressed", &[compressed, body.clone()].concat(), &path);
    assert!(warned.contains("its transfer syntax is RLE Image Compression") || warned.contains("RLE Lossless"), "{warned}");
    assert!(warned.contains("but its pixel data is not encapsulated: it is read as uncompressed"), "{warned}");
    let jpeg = parts(ct(30.0), uids::JPEG2000_LOSSLESS).0;
    for head in [plain, jpeg] {
        let warned = reads("compressed", &[head, packed.clone()].concat(), &path);
        assert!(warned.contains("but its pixels are in RLE") && warned.contains("are read as such"), "{warned}");
    }
    // Too short for uncompressed pixels.
    let mut object = ct(30.0);
    super::make::put_u16(&mut object, tags::ROWS, 2);
    fs::write(&path, [parts(ct(30.0), uids::RLE_LOSSLESS).0, parts(object, EXPLICIT).1].concat()).expect("written");
    let error = read(&path, None).expect_err("another length");
    assert!(error.contains("is not encapsulated, nor of the 24 bytes that it has uncompressed"), "{error}");
}

/// The first element does not reveal the byte order if it belongs to a private group.
#[test]
fn a_private_group_at_the_beginning_does_not_set_the_byte_order() {
    let (head, _) = parts(ct(30.0), EXPLICIT);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("private");
    fs::write(&path, [&head[..], &short([3, 0x3F, 0x10, 0], b"LO", b"X ")].concat()).expect("written");
    let error = read(&path, None).expect_err("no image");
    assert!(error.contains("DICOM without a modality"), "{error}");
}

/// A file damaged in its header counts by the elements before the damage: other modalities are left out, and a slice
/// belongs to the series that it names.
#[test]
fn a_damaged_header_counts_by_the_elements_before_the_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let cut_behind = |object: InMemDicomObject, tag: [u8; 4], name: &str| {
        let (head, body) = parts(object, EXPLICIT);
        let end = body.windows(4).position(|bytes| bytes == tag).expect("the tag") + 9;
        fs::write(at(name), [&head, &body[..end]].concat()).expect("written");
    };
    save(ct(30.0), &at("IM1"));
    cut_behind(super::of_modality("RTPLAN"), [8, 0, 0x3E, 0x10], "IM2");
    let (slices, warned) = read(folder.path(), None).expect("one slice");
    assert_eq!((slices, warned.as_str()), (vec![hu(30.0)], "left out: 1 file: modality RTPLAN, no CT (IM2)"));
    let position = [0x20, 0, 0x32, 0];
    cut_behind(super::other(0.0), position, "IM3");
    read(folder.path(), None).expect("the slice of another series is damaged");
    cut_behind(ct(31.0), position, "unlike.x");
    let error = read(folder.path(), None).expect_err("a slice of this one is");
    assert!(
        error.contains("unlike.x: damaged before its pixel data: element (0020,0032) claims 10 bytes where 1 are left; repair"),
        "{error}"
    );
}

#[test]
fn a_dicomdir_names_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("DICOMDIR");
    save(with(ct(9.0), tags::SOP_CLASS_UID, VR::UI, uids::MEDIA_STORAGE_DIRECTORY_STORAGE), &path);
    let error = read(&path, None).expect_err("a list");
    assert!(error.contains("give the folder that it is in"), "{error}");
    // A real DICOMDIR: its data set holds only records, and no SOP class.
    let records = [short([4, 0, 0x30, 0x11], b"CS", b"DISC"), long([4, 0, 0x20, 0x12], b"SQ", 0, b"")].concat();
    fs::write(&path, [&[0; 128][..], b"DICM", &records].concat()).expect("written");
    let error = read(&path, None).expect_err("a list");
    assert!(error.contains("give the folder that it is in"), "{error}");
    save(ct(30.0), &folder.path().join("IM1"));
    assert_eq!(read(folder.path(), None).expect("one slice"), (vec![hu(30.0)], String::new()));
}
