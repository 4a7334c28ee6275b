//! NRRD and MetaImage: values, positions and damage of files that the tests write byte by byte.
//! `fuzz/text_formats.py` compares the same readers with SimpleITK and pynrrd.
#![cfg(feature = "readers")]
#![allow(clippy::float_cmp, reason = "readers give values to the last bit")]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use meddino::ct::{Volume, files_of};

/// [slices, rows, columns]
const SHAPE: [usize; 3] = [2, 2, 3];
const VALUES: [i16; 12] = [0, 1, 2, 3, 4, 5, 60, 70, 80, 90, 100, 127];

/// The stored types, their names in NRRD and MetaImage, and a value in little-endian bytes.
type Stored = (&'static str, &'static str, fn(i16) -> Vec<u8>);

const TYPES: [Stored; 10] = [
    ("signed char", "MET_CHAR", |v| (v as i8).to_le_bytes().to_vec()),
    ("unsigned char", "MET_UCHAR", |v| (v as u8).to_le_bytes().to_vec()),
    ("short", "MET_SHORT", |v| v.to_le_bytes().to_vec()),
    ("ushort", "MET_USHORT", |v| (v as u16).to_le_bytes().to_vec()),
    ("int", "MET_INT", |v| i32::from(v).to_le_bytes().to_vec()),
    ("unsigned int", "MET_UINT", |v| (v as u32).to_le_bytes().to_vec()),
    ("long long int", "MET_LONG_LONG", |v| i64::from(v).to_le_bytes().to_vec()),
    ("uint64_t", "MET_ULONG_LONG", |v| (v as u64).to_le_bytes().to_vec()),
    ("float", "MET_FLOAT", |v| f32::from(v).to_le_bytes().to_vec()),
    ("double", "MET_DOUBLE", |v| f64::from(v).to_le_bytes().to_vec()),
];

fn bytes(to_bytes: fn(i16) -> Vec<u8>, is_big_endian: bool) -> Vec<u8> {
    let value = |v: &i16| {
        let mut bytes = to_bytes(*v);
        if is_big_endian {
            bytes.reverse();
        }
        bytes
    };
    VALUES.iter().flat_map(value).collect()
}

fn i16s() -> Vec<u8> {
    bytes(TYPES[2].2, false)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).and_then(|()| packed.finish()).expect("memory takes it")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).and_then(|()| packed.finish()).expect("memory takes it")
}

/// A NRRD file: the fields of a small volume, replaced by those of `fields` with the same name (an empty value removes a
/// field), and `data`.
fn nrrd(fields: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let usual = [
        ("type", "short"),
        ("dimension", "3"),
        ("space", "left-posterior-superior"),
        ("sizes", "3 2 2"),
        ("space directions", "(0.5,0,0) (0,0.75,0) (0,0,2)"),
        ("kinds", "domain domain domain"),
        ("endian", "little"),
        ("encoding", "raw"),
        ("space origin", "(10,20,-30)"),
    ];
    [&b"NRRD0004\n# comment\n"[..], replaced(&usual, fields, ": ").as_bytes(), b"\n", data].concat()
}

/// A MetaImage file, as [`nrrd`].
fn meta(fields: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let usual = [
        ("ObjectType", "Image"),
        ("NDims", "3"),
        ("BinaryData", "True"),
        ("BinaryDataByteOrderMSB", "False"),
        ("CompressedData", "False"),
        ("TransformMatrix", "1 0 0 0 1 0 0 0 1"),
        ("Offset", "10 20 -30"),
        ("ElementSpacing", "0.5 0.75 2"),
        ("DimSize", "3 2 2"),
        ("ElementType", "MET_SHORT"),
        ("ElementDataFile", "LOCAL"),
    ];
    [replaced(&usual, fields, " = ").as_bytes(), data].concat()
}

fn replaced(usual: &[(&str, &str)], fields: &[(&str, &str)], between: &str) -> String {
    let new = fields.iter().filter(|(name, _)| usual.iter().all(|(other, _)| other != name));
    let chosen = usual.iter().map(|usual| fields.iter().find(|(name, _)| *name == usual.0).unwrap_or(usual));
    let kept = new.chain(chosen).filter(|(_, value)| !value.is_empty());
    kept.fold(String::new(), |text, (name, value)| text + name + between + value + "\n")
}

/// Reads all slices forwards, and then the first one again.
fn read(path: &Path) -> Result<(Volume, Vec<f32>), String> {
    let mut scan = Volume::open(path).map_err(|e| e.to_string())?;
    let mut values = Vec::new();
    for index in (0..scan.slices()).chain([0]) {
        values.extend_from_slice(scan.read_slice(index).map_err(|e| e.to_string())?.data());
    }
    let again = values.split_off(scan.slices() * scan.height() * scan.width());
    assert_eq!(again, values[..again.len()], "the first slice, read again");
    Ok((scan, values))
}

#[test]
fn every_type_byte_order_and_encoding_gives_the_same_scan() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected: Vec<f32> = VALUES.iter().map(|v| f32::from(*v)).collect();
    let check = |name: &str, files: &[(&str, Vec<u8>)]| {
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        let (scan, values) = read(&folder.path().join(name)).expect(name);
        assert_eq!(([scan.slices(), scan.height(), scan.width()], &values), (SHAPE, &expected), "{name}");
        let rows = [[-0.5, 0.0, 0.0, -10.0], [0.0, -0.75, 0.0, -20.0], [0.0, 0.0, 2.0, -30.0]];
        assert_eq!(scan.affine().expect("an affine").rows, rows, "{name}");
        assert_eq!(scan.geometry().expect("a grid").spacing(), [2.0, 0.75, 0.5]);
        assert!(scan.warnings().is_empty(), "{name}: {:?}", scan.warnings());
    };
    for ((nrrd_type, meta_type, to_bytes), is_big) in TYPES.iter().flat_map(|stored| [(stored, false), (stored, true)]) {
        let data = bytes(*to_bytes, is_big);
        let endian = if is_big { "big" } else { "little" };
        let msb = if is_big { "True" } else { "False" };
        let of = [("type", *nrrd_type), ("endian", endian)];
        let with = |more: &[(&'static str, &'static str)]| [&of[..], more].concat();
        check("a.nrrd", &[("a.nrrd", nrrd(&of, &data))]);
        check("b.NRRD", &[("b.NRRD", nrrd(&with(&[("encoding", "gzip")]), &gzip(&data)))]);
        check("c.nhdr", &[("c.nhdr", nrrd(&with(&[("data file", "c.raw")]), &[])), ("c.raw", data.clone())]);
        let packed = with(&[("encoding", "gz"), ("datafile", "./d.raw.gz"), ("byte skip", "3")]);
        check("d.nhdr", &[("d.nhdr", nrrd(&packed, &[])), ("d.raw.gz", gzip(&[&[9; 3], &data[..]].concat()))]);
        let of = [("ElementType", *meta_type), ("BinaryDataByteOrderMSB", msb)];
        let with = |more: &[(&'static str, &'static str)]| [&of[..], more].concat();
        check("e.mha", &[("e.mha", meta(&of, &data))]);
        check("f.mha", &[("f.mha", meta(&with(&[("CompressedData", "True")]), &zlib(&data)))]);
        check("g.mhd", &[("g.mhd", meta(&with(&[("ElementDataFile", "g.raw")]), &[])), ("g.raw", data.clone())]);
        let packed = with(&[("CompressedData", "True"), ("ElementDataFile", "h.zraw")]);
        check("h.mhd", &[("h.mhd", meta(&packed, &[])), ("h.zraw", zlib(&data))]);
    }
}

#[test]
fn a_position_is_turned_from_the_space_of_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let affine = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        let scan = read(&path).expect(name).0;
        (scan.affine().map(|affine| affine.rows), scan.warnings().join(" "))
    };
    let tilted = [("space directions", "(0,0.5,0) (0,0,-0.75) (2,0,0)")];
    for (space, [x, y]) in [("RAS", [1.0, 1.0]), ("left-anterior-superior", [-1.0, 1.0]), ("LPS", [-1.0, -1.0])] {
        let rows = [[0.0, 0.0, x * 2.0, x * 10.0], [y * 0.5, 0.0, 0.0, y * 20.0], [0.0, -0.75, 0.0, -30.0]];
        assert_eq!(affine("a.nrrd", nrrd(&[tilted[0], ("space", space)], &i16s())), (Some(rows), String::new()), "{space}");
    }
    let lps = [[0.0, 0.0, -2.0, -10.0], [-0.5, 0.0, 0.0, -20.0], [0.0, -0.75, 0.0, -30.0]];
    // A row of the matrix is the direction of an axis.
    let rows = [("TransformMatrix", "0 1 0 0 0 -1 1 0 0")];
    assert_eq!(affine("b.mha", meta(&rows, &i16s())), (Some(lps), String::new()));
    // What the header leaves out is said.
    for (name, bytes, said) in [
        (
            "c.nrrd",
            nrrd(&[("space", ""), ("space dimension", "3")], &i16s()),
            "LPS was taken, as SimpleITK does; in RAS it would be turned",
        ),
        ("d.nrrd", nrrd(&[("space", "scanner-xyz")], &i16s()), "does not say which way the patient lies"),
        ("e.nrrd", nrrd(&[("space", ""), ("space directions", ""), ("spacings", "0.5 0.75 2")], &i16s()), "does not state its orientation"),
        ("f.nrrd", nrrd(&[("space origin", "")], &i16s()), "gives no position"),
        ("g.nrrd", nrrd(&[("space units", "\"mm\" \"mm\" \"um\"")], &i16s()), "distances in \"um\""),
        ("h.mha", meta(&[("TransformMatrix", "")], &i16s()), "does not state its orientation"),
        ("i.mha", meta(&[("Offset", "")], &i16s()), "gives no position"),
        ("j.mha", meta(&[("BinaryDataByteOrderMSB", "")], &i16s()), "gives no byte order"),
        ("k.mha", meta(&[("ElementToIntensityFunctionSlope", "2")], &i16s()), "gives a scale for its values"),
        ("l.mha", meta(&[], &[&i16s()[..], &[0]].concat()), "1 bytes follow the last voxel"),
    ] {
        let (rows, warnings) = affine(name, bytes);
        assert!(rows.is_some() && warnings.contains(said), "{name}: {rows:?} {warnings}");
    }
    for (name, bytes) in [
        ("m.nrrd", nrrd(&[("space", ""), ("space directions", ""), ("space origin", "")], &i16s())),
        ("n.mha", meta(&[("ElementSpacing", "")], &i16s())),
        ("o.nrrd", nrrd(&[("space directions", "(nan,0,0) (0,1,0) (0,0,1)")], &i16s())),
        ("p.nrrd", nrrd(&[("space directions", "(1,0,0) (1,0,0) (0,0,1)")], &i16s())),
    ] {
        assert_eq!(affine(name, bytes).0, None, "{name}");
    }
}

#[test]
fn voxels_begin_where_the_header_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let junk = |bytes: &[u8]| [&b"one\ntwo\n"[..], bytes].concat();
    fs::create_dir(at("data")).expect("made");
    for (name, bytes) in [
        ("lines.nrrd", nrrd(&[("line skip", "2")], &junk(&i16s()))),
        ("bytes.nrrd", nrrd(&[("byte skip", "8")], &junk(&i16s()))),
        ("both.nrrd", nrrd(&[("line skip", "1"), ("byteskip", "4")], &junk(&i16s()))),
        ("last.nrrd", nrrd(&[("byte skip", "-1")], &junk(&i16s()))),
        ("lines_gzip.nrrd", nrrd(&[("line skip", "2"), ("encoding", "gzip")], &junk(&gzip(&i16s())))),
        ("folder.nhdr", nrrd(&[("data file", "data/x.raw")], &[])),
        ("data/x.raw", i16s()),
        ("size.mhd", meta(&[("ElementDataFile", "y.raw"), ("HeaderSize", "8")], &[])),
        ("last.mhd", meta(&[("ElementDataFile", "y.raw"), ("HeaderSize", "-1")], &[])),
        ("y.raw", junk(&i16s())),
        ("sized.mha", meta(&[("CompressedData", "True"), ("CompressedDataSize", "4")], &zlib(&i16s()))),
    ] {
        fs::write(at(name), bytes).expect("written");
    }
    for name in
        ["lines.nrrd", "bytes.nrrd", "both.nrrd", "last.nrrd", "lines_gzip.nrrd", "folder.nhdr", "size.mhd", "last.mhd", "sized.mha"]
    {
        assert_eq!(read(&at(name)).expect(name).1[6..], [60.0, 70.0, 80.0, 90.0, 100.0, 127.0], "{name}");
    }
    // Data files are inputs, too, which no output may overwrite.
    assert_eq!(files_of(at("folder.nhdr")).expect("found"), [at("data/x.raw"), at("folder.nhdr")]);
    assert_eq!(files_of(at("size.mhd")).expect("found"), [at("size.mhd"), at("y.raw")]);
    assert_eq!(files_of(at("lines.nrrd")).expect("found"), [at("lines.nrrd")]);
}

/// Writes each case and compares the error with the expected one.
fn refused(cases: Vec<(&str, Vec<u8>, &str)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        let _ = files_of(&path);
        match read(&path).map(|(scan, _)| format!("{:?}", scan.warnings())) {
            Err(error)
                if error.starts_with(&format!("input {}: ", path.display())) && error.contains(expected) && !error.contains('\n') => {}
            other => wrong.push(format!("{name}: expected {expected:?}, found {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hostile_nrrd_files_are_refused() {
    let with = |fields: &[(&str, &str)]| nrrd(fields, &i16s());
    let damaged = |mut bytes: Vec<u8>| {
        let last = bytes.len() - 6;
        bytes[last] ^= 255;
        bytes
    };
    let packed = gzip(&i16s());
    refused(vec![
        ("nothing.nrrd", Vec::new(), "not a NRRD file"),
        ("version.nrrd", b"NRRD0009\n\n".to_vec(), "NRRD of version 9"),
        ("magic.nrrd", b"NRRD0004\n\n".to_vec(), "does not say"),
        ("endless.nrrd", [&b"NRRD0004\n"[..], &vec![b'a'; 2 << 20]].concat(), "does not end within 1048576 bytes"),
        ("comments.nrrd", [&b"NRRD0004\n"[..], &b"# c\n".repeat(400_000)].concat(), "does not end within 1048576 bytes"),
        ("line.nrrd", b"NRRD0004\nno field\n\n".to_vec(), "the line \"no field\" is no field"),
        ("twice.nrrd", b"NRRD0004\ntype: short\ntype: float\n\n".to_vec(), "says type twice"),
        ("type.nrrd", with(&[("type", "half")]), "unknown type \"half\""),
        ("block.nrrd", with(&[("type", "block")]), "blocks of bytes"),
        ("no_type.nrrd", with(&[("type", "")]), "does not say type"),
        ("no_endian.nrrd", with(&[("endian", "")]), "does not say endian"),
        ("endian.nrrd", with(&[("endian", "middle")]), "endian is \"middle\""),
        ("ascii.nrrd", with(&[("encoding", "ascii")]), "encoding ascii is not read"),
        ("bzip2.nrrd", with(&[("encoding", "bzip2")]), "encoding bzip2 is not read"),
        ("encoding.nrrd", with(&[("encoding", "magic")]), "encoding is \"magic\""),
        ("sizes.nrrd", with(&[("sizes", "3 2")]), "dimension is 3, but sizes has 2 numbers"),
        ("negative.nrrd", with(&[("sizes", "3 2 -2")]), "expected whole numbers"),
        ("zero.nrrd", with(&[("sizes", "3 0 2")]), "expected at least 1 each"),
        ("wide.nrrd", with(&[("sizes", "20000 2 2")]), "beyond 16384 pixels a side"),
        ("huge.nrrd", with(&[("sizes", "16384 16384 1000000")]), "promises 536870912000000 bytes"),
        ("beyond.nrrd", with(&[("sizes", "16384 16384 18446744073709551615")]), "are beyond 16777216"),
        ("beyond_64_bits.nrrd", with(&[("sizes", "3 2 99999999999999999999")]), "expected whole numbers"),
        ("line_of_values.nrrd", with(&[("dimension", "1"), ("sizes", "12"), ("kinds", "domain")]), "expected three axes"),
        ("vector.nrrd", with(&[("kinds", "vector domain domain")]), "has an axis of kind vector"),
        ("four.nrrd", with(&[("dimension", "4"), ("sizes", "3 2 2 1"), ("kinds", "")]), "expected three axes"),
        ("none.nrrd", with(&[("space directions", "none (0,1,0) (0,0,1)")]), "an axis that is none of space"),
        ("two_directions.nrrd", with(&[("space directions", "(1,0,0) (0,1,0)")]), "space directions are"),
        ("short_direction.nrrd", with(&[("space directions", "(1,0) (0,1) (0,0)")]), "space directions are"),
        ("open.nrrd", with(&[("space directions", "(1,0,0) (0,1,0) (0,0,1")]), "space directions are"),
        ("origin.nrrd", with(&[("space origin", "0 0 0")]), "space origin is"),
        ("space.nrrd", with(&[("space", "left")]), "its space is \"left\""),
        ("spacing.nrrd", with(&[("space directions", ""), ("spacings", "0 1 1")]), "expected three distances above 0"),
        ("short.nrrd", nrrd(&[], &i16s()[..23]), "the file is damaged"),
        ("short_last.nrrd", nrrd(&[("byte skip", "-1")], &i16s()[..23]), "the file is damaged"),
        ("skip.nrrd", with(&[("byte skip", "1")]), "the file is damaged"),
        ("skip_far.nrrd", with(&[("byte skip", "18446744073709551615")]), "the file is damaged"),
        ("skip_negative.nrrd", with(&[("byte skip", "-2")]), "byte skip is \"-2\""),
        ("skip_gzip.nrrd", nrrd(&[("byte skip", "-1"), ("encoding", "gzip")], &packed), "byte skip -1 and encoding gzip"),
        ("lines.nrrd", with(&[("line skip", "9")]), "9 lines precede the voxels"),
        ("no_gzip.nrrd", with(&[("encoding", "gzip")]), "do not begin as gzip"),
        ("cut.nrrd", nrrd(&[("encoding", "gzip")], &packed[..packed.len() - 9]), "its gzip data"),
        ("checksum.nrrd", nrrd(&[("encoding", "gzip")], &damaged(packed.clone())), "its gzip data are damaged"),
        ("bomb.nrrd", nrrd(&[("encoding", "gzip"), ("sizes", "9000 9000 900")], &packed), "cannot hold so much"),
        ("list.nhdr", with(&[("data file", "LIST")]), "in several files (data file: LIST)"),
        ("pattern.nhdr", with(&[("data file", "x%03d.raw 1 9 1")]), "in several files"),
        ("missing.nhdr", with(&[("data file", "gone.raw")]), "gone.raw"),
        ("itself.nhdr", with(&[("data file", "itself.nhdr")]), "names itself as the file of its voxels"),
        ("folder.nhdr", with(&[("data file", ".")]), "is a folder"),
    ]);
}

#[test]
fn hostile_metaimage_files_are_refused() {
    let with = |fields: &[(&str, &str)]| meta(fields, &i16s());
    let packed = zlib(&i16s());
    let zip = |fields: &[(&str, &str)], data: &[u8]| meta(&[&[("CompressedData", "True")], fields].concat(), data);
    let damaged = |at: usize| {
        let mut bytes = packed.clone();
        let at = bytes.len() - at;
        bytes[at] ^= 255;
        bytes
    };
    refused(vec![
        ("nothing.mha", Vec::new(), "not a MetaImage file"),
        ("text.mha", b"hello\n".to_vec(), "not a MetaImage file"),
        ("cut_header.mha", b"ObjectType = Image\nNDims = 3\n".to_vec(), "ends before ElementDataFile"),
        ("endless.mha", vec![b'a'; 2 << 20], "does not end within 1048576 bytes"),
        ("object.mha", with(&[("ObjectType", "Tube")]), "an object of type Tube"),
        ("twice.mha", b"NDims = 3\nNDims = 2\n".to_vec(), "says NDims twice"),
        ("no_axes.mha", with(&[("NDims", "")]), "does not say NDims"),
        ("axes.mha", with(&[("NDims", "4")]), "NDims is 4, but DimSize has 3 numbers"),
        ("four.mha", with(&[("NDims", "4"), ("DimSize", "3 2 2 1")]), "expected three axes"),
        ("sizes.mha", with(&[("DimSize", "3 2 x")]), "expected whole numbers"),
        ("zero.mha", with(&[("DimSize", "3 2 0")]), "expected at least 1 each"),
        ("wide.mha", with(&[("DimSize", "3 20000 2")]), "beyond 16384 pixels a side"),
        ("huge.mha", with(&[("DimSize", "16384 16384 1000000")]), "promises 536870912000000 bytes"),
        ("beyond.mha", with(&[("DimSize", "16384 16384 18446744073709551615")]), "are beyond 16777216"),
        ("channels.mha", with(&[("ElementNumberOfChannels", "3")]), "has 3 numbers a voxel"),
        ("text_values.mha", with(&[("BinaryData", "False")]), "its voxels are text"),
        ("type.mha", with(&[("ElementType", "MET_SHORT_ARRAY")]), "is no number of HU"),
        ("other.mha", with(&[("ElementType", "MET_OTHER")]), "is no number of HU"),
        ("no_type.mha", with(&[("ElementType", "")]), "does not say ElementType"),
        ("order.mha", with(&[("ElementByteOrderMSB", "True")]), "contradict each other"),
        ("flag.mha", with(&[("CompressedData", "maybe")]), "expected True or False"),
        ("spacing.mha", with(&[("ElementSpacing", "0 1 1")]), "expected three distances above 0"),
        ("spacing_nan.mha", with(&[("ElementSpacing", "nan 1 1")]), "ElementSpacing is \"nan 1 1\""),
        ("spacing_negative.mha", with(&[("ElementSpacing", "-1 1 1")]), "expected three distances above 0"),
        ("matrix.mha", with(&[("TransformMatrix", "1 0 0 0 1 0")]), "expected 9 numbers"),
        ("matrix_nan.mha", with(&[("TransformMatrix", "nan 0 0 0 1 0 0 0 1")]), "expected 9 numbers"),
        ("matrix_long.mha", with(&[("TransformMatrix", "2 0 0 0 1 0 0 0 1")]), "expected rows of length 1"),
        ("offset.mha", with(&[("Offset", "1 2")]), "Offset is \"1 2\", expected 3 numbers"),
        ("short.mha", meta(&[], &i16s()[..23]), "the file is damaged"),
        ("header_size.mha", with(&[("HeaderSize", "many")]), "HeaderSize is \"many\""),
        ("header_far.mha", with(&[("HeaderSize", "18446744073709551615")]), "the file is damaged"),
        ("header_last.mha", meta(&[("HeaderSize", "-1")], &i16s()[..23]), "the file is damaged"),
        ("header_zip.mha", zip(&[("HeaderSize", "-1")], &packed), "HeaderSize -1 and CompressedData True"),
        ("compressed_size.mha", zip(&[("CompressedDataSize", "999")], &packed), "promises 999 compressed bytes"),
        ("compressed_far.mha", zip(&[("CompressedDataSize", "18446744073709551615")], &packed), "the file is damaged"),
        ("no_zlib.mha", zip(&[], &i16s()), "its zlib data"),
        ("cut.mha", zip(&[], &packed[..packed.len() / 2]), "its zlib data"),
        ("checksum.mha", zip(&[], &damaged(1)), "its zlib data are damaged"),
        ("bomb.mha", zip(&[("DimSize", "9000 9000 900")], &packed), "cannot hold so much"),
        ("list.mhd", with(&[("ElementDataFile", "LIST")]), "in several files (ElementDataFile = LIST)"),
        ("pattern.mhd", with(&[("ElementDataFile", "x%03d.raw 1 9 1")]), "in several files"),
        ("missing.mhd", with(&[("ElementDataFile", "gone.raw")]), "gone.raw"),
        ("itself.mhd", with(&[("ElementDataFile", "./itself.mhd")]), "expected another file, or ElementDataFile = LOCAL"),
    ]);
}
