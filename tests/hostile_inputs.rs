//! Damaged, misleading and hostile inputs: each is refused with an error that names the file and the reason, and no
//! claim takes memory.
#![cfg(feature = "readers")]

use std::fs::{self, File};
use std::path::Path;

use meddino::ct::{Images, Volume};

/// A `.npy` file, version 1, whose header is `dict` and whose values are `values`.
fn npy(dict: &str, values: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(dict.len() as u16).to_le_bytes()[..], dict.as_bytes(), values].concat()
}

/// A header as NumPy writes it.
fn described(descr: &str, fortran: bool, shape: &str) -> String {
    let fortran = if fortran { "True" } else { "False" };
    format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
}

/// A `.safetensors` file whose header is `header` and whose tensors are `values`.
fn safetensors(header: &str, values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Opens `path` by its ending and reads everything. Returns the error, if there is one.
fn read(path: &Path) -> Result<(), String> {
    let result = if path.extension().is_some_and(|e| e == "safetensors") {
        Images::open(path).and_then(|images| (0..images.shape()[0]).try_for_each(|i| images.read(i).map(drop)))
    } else {
        Volume::open(path).and_then(|mut scan| (0..scan.slices()).try_for_each(|i| scan.read_slice(i).map(drop)))
    };
    result.map_err(|e| e.to_string())
}

/// Writes each case's bytes under its name and compares the error with the expected one. `None` means no error.
fn check(cases: Vec<(&str, Vec<u8>, Option<&str>)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        let result = read(&path);
        let right = match (&result, expected) {
            (Ok(()), None) => true,
            (Err(error), Some(expected)) => {
                error.starts_with(&format!("input {}: ", path.display())) && error.contains(expected) && !error.contains('\n')
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{name}: expected {expected:?}, found {result:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn npy_shapes_and_sizes() {
    let hu = |shape: &str, n: usize| npy(&described("'<f4'", false, shape), &vec![0; n * 4]);
    check(vec![
        ("one_pixel.npy", hu("(1, 1)", 1), None),
        ("extra_space.npy", hu("( 2 ,3 )", 6), None),
        ("empty.npy", hu("(0, 4)", 0), Some("the array is empty: [0, 4]")),
        ("no_slices.npy", hu("(0, 4, 4)", 0), Some("the array is empty")),
        ("scalar.npy", hu("()", 1), Some("found 0 axes")),
        ("line.npy", hu("(4,)", 4), Some("expected [H, W] or [S, H, W], found 1 axes: [4]")),
        ("four_axes.npy", hu("(1, 1, 2, 2)", 4), Some("found 4 axes")),
        ("negative.npy", hu("(-2, -2)", 4), Some("cannot be negative")),
        ("fraction.npy", hu("(2.0, 2)", 4), Some("dimension must be an integer")),
        ("huge.npy", hu("(1099511627776, 4, 4)", 4), Some("1099511627776 slices are beyond 16777216")),
        ("promising.npy", hu("(16777216, 4, 4)", 4), Some("the file is damaged")),
        ("overflow.npy", hu("(4294967296, 4294967296, 4)", 4), Some("more values than a file can hold")),
        ("overflow_empty.npy", hu("(4294967296, 4294967296, 0)", 0), Some("more values than a file can hold")),
        ("beyond_64_bits.npy", hu("(99999999999999999999, 4)", 4), Some("99999999999999999999 is no size")),
        ("hexadecimal.npy", hu("(0xFFFFFFFFFFFF, 0xFFFFFFFFFFFF)", 4), Some("is no size")),
        ("underscores.npy", hu("(9_000_000_000, 9_000_000_000_000)", 4), Some("is no size")),
        ("wide.npy", hu("(1, 20000)", 20_000), Some("beyond 16384 pixels a side")),
        ("short.npy", hu("(2, 2)", 3), Some("promises [2, 2] values of 4 bytes, 16 bytes in all, but 12 follow")),
        ("long.npy", hu("(2, 2)", 5), Some("but 20 follow")),
    ]);
}

#[test]
fn npy_headers() {
    let fine = described("'<i2'", false, "(2, 2)");
    let version = |v: u8| [b"\x93NUMPY", &[v, 0][..], &(fine.len() as u32).to_le_bytes(), fine.as_bytes(), &[0; 8]].concat();
    let nested = format!("{{'descr': {}'<i2'", "[".repeat(5000));
    let claims = |n: u32| [b"\x93NUMPY\x02\x00", &n.to_le_bytes()[..], b"{}"].concat();
    check(vec![
        ("version_2.npy", version(2), None),
        ("version_3.npy", version(3), None),
        ("version_9.npy", version(9), Some("unknown .npy version 9")),
        ("nothing.npy", Vec::new(), Some("not a .npy file")),
        ("magic_alone.npy", b"\x93NUMPY".to_vec(), Some("the file ends inside it")),
        ("png.npy", b"\x89PNG\r\n\x1a\n0000000000000000".to_vec(), Some("not a .npy file: it does not begin as one")),
        ("cut_header.npy", npy(&fine, &[])[..40].to_vec(), Some("the file ends inside it")),
        ("four_gigabyte_header.npy", claims(u32::MAX), Some("it claims 4294967295 bytes")),
        ("header_beyond_file.npy", claims(9000), Some("the file ends inside it")),
        ("nesting.npy", npy(&nested, &[]), Some("nests without end")),
        ("not_python.npy", npy("import os\n", &[]), Some("broken .npy header")),
        ("not_utf8.npy", npy("", &[]).into_iter().chain([0xFF; 64]).collect(), Some("broken .npy header")),
        ("no_shape.npy", npy("{'descr': '<i2', 'fortran_order': False}\n", &[]), Some("missing key 'shape'")),
        ("no_order.npy", npy("{'descr': '<i2', 'shape': (1, 1)}\n", &[0; 2]), Some("missing key 'fortran_order'")),
    ]);
}

#[test]
fn npy_types() {
    let of = |descr: &str, item: usize| npy(&described(descr, false, "(2, 2)"), &vec![0; 4 * item]);
    check(vec![
        ("bool.npy", of("'|b1'", 1), Some("dtype bool is a mask, and no HU")),
        ("complex.npy", of("'<c8'", 8), Some("'<c8' is no number of HU")),
        ("text.npy", of("'<U3'", 12), Some("is no number of HU")),
        ("object.npy", of("'|O'", 8), Some("'|O' is no number of HU")),
        ("date.npy", of("'<M8[ns]'", 8), Some("is no number of HU")),
        ("quad.npy", of("'<f16'", 16), Some("is no number of HU")),
        ("record.npy", of("[('a', '<i2'), ('b', '<i2')]", 4), Some("is no number of HU")),
        ("array_of_arrays.npy", of("[('a', '<i2', (4, 4))]", 32), Some("is no number of HU")),
        ("unknown.npy", of("'<q2'", 2), Some("broken .npy header")),
        ("odd_float.npy", of("'<f3'", 3), Some(".npy")),
    ]);
}

#[test]
fn npy_values() {
    let hu = |values: &[f32]| npy(&described("'<f4'", false, "(2, 1, 2)"), &f32s(values));
    let f64s: Vec<u8> = [0.0, 1e300].iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
    check(vec![
        ("far_out.npy", hu(&[-3e38, 3e38, 0.0, -0.0]), None),
        ("nan.npy", hu(&[0.0, 1.0, f32::NAN, f32::NAN]), Some("slice 1 holds 2 values that are no HU, the first at row 0, column 0: NaN")),
        (
            "infinite.npy",
            hu(&[0.0, f32::INFINITY, 0.0, 0.0]),
            Some("slice 0 holds 1 values that are no HU, the first at row 0, column 1: inf"),
        ),
        ("beyond_f32.npy", npy(&described("'<f8'", false, "(1, 2)"), &f64s), Some("column 1: inf")),
    ]);
}

#[test]
fn names_and_paths() {
    check(vec![
        ("picture.png", b"\x89PNG\r\n\x1a\n".to_vec(), Some("holds shades of gray after somebody's windowing, and no HU")),
        ("picture.JPG", Vec::new(), Some("no HU")),
        ("scan.dat", Vec::new(), Some("expected a name ending in .npy")),
        ("scan", Vec::new(), Some("expected a name ending in .npy")),
        ("UPPER.NPY", npy(&described("'|u1'", true, "(1, 1)"), &[7]), None),
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder.npy")).expect("created");
    fs::create_dir(at("folder.safetensors")).expect("created");
    for (name, expected) in [
        ("folder.npy", "not a file"),
        ("folder.safetensors", "not a file"),
        ("missing.npy", "os error 2"),
        ("missing.safetensors", "os error 2"),
    ] {
        let error = read(&at(name)).expect_err(name);
        assert!(error.contains(expected) || cfg!(windows), "{error}");
    }
}

/// The file is as long as its header says but sparse on disk. Opening must not take the memory that the header
/// promises.
#[test]
fn a_terabyte_of_slices_is_read_one_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sparse.npy");
    let header = npy(&described("'<i2'", false, "(2097152, 512, 512)"), &[]);
    fs::write(&path, &header).expect("written");
    let file = File::options().write(true).open(&path).expect("opened");
    if file.set_len(header.len() as u64 + (2 << 21) * 512 * 512).is_err() {
        eprintln!("this file system has no sparse files of a terabyte: not tested");
        return;
    }
    let mut scan = Volume::open(&path).expect("a volume");
    assert_eq!(scan.slices(), 2_097_152);
    assert!(scan.read_slice(2_097_151).expect("the last slice").data().iter().all(|&v| v == 0.0));
}

#[test]
fn safetensors_images() {
    let entry = |dtype: &str, shape: &str, bytes: usize| {
        format!("{{\"image\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{bytes}]}}}}")
    };
    let of = |dtype: &str, shape: &str, values: &[u8]| safetensors(&entry(dtype, shape, values.len()), values);
    let claims = |n: u64| [&n.to_le_bytes()[..], b"{}"].concat();
    check(vec![
        ("fine.safetensors", of("F32", "[1,1,1,2]", &f32s(&[0.0, 1.0])), None),
        ("nothing.safetensors", Vec::new(), Some("shorter than its first field")),
        ("header_of_2_60.safetensors", claims(1 << 60), Some("claims a header of 1152921504606846976 bytes")),
        ("header_beyond_file.safetensors", claims(100), Some("claims a header of 100 bytes")),
        ("not_json.safetensors", safetensors("{\"image\":", &[]), Some("its header is damaged")),
        ("not_utf8.safetensors", [&4_u64.to_le_bytes()[..], &[0xFF; 4]].concat(), Some("its header is damaged")),
        ("nesting.safetensors", safetensors(&"[".repeat(100_000), &[]), Some("its header is damaged")),
        ("no_tensor.safetensors", safetensors("{}", &[]), Some("expected a tensor named image")),
        (
            "other_name.safetensors",
            safetensors("{\"picture\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", &[0]),
            Some("found picture"),
        ),
        ("three_axes.safetensors", of("F32", "[1,1,2]", &f32s(&[0.0, 1.0])), Some("expected [B, C, H, W], found [1, 1, 2]")),
        ("empty.safetensors", of("F32", "[0,3,16,16]", &[]), Some("is empty")),
        (
            "integers.safetensors",
            of("I16", "[1,1,1,2]", &[0; 4]),
            Some("expected f32, f16, bf16 or f64, normalised, found signed integers"),
        ),
        ("many_channels.safetensors", of("F32", "[1,65,1,1]", &[0; 260]), Some("beyond 64 channels")),
        ("wide.safetensors", of("F16", "[1,1,1,8193]", &[0; 16_386]), Some("8192 pixels a side")),
        ("nan.safetensors", of("F32", "[2,1,1,1]", &f32s(&[0.0, f32::NAN])), Some("image 1 holds 1 values that are NaN or infinite")),
        ("short.safetensors", safetensors(&entry("F32", "[1,1,1,2]", 8), &[0; 4]), Some("is 76 bytes long where its header describes 80")),
        ("long.safetensors", safetensors(&entry("F32", "[1,1,1,2]", 8), &[0; 12]), Some("is 84 bytes long where its header describes 80")),
        ("wrong_offsets.safetensors", safetensors(&entry("F32", "[1,1,1,2]", 4), &[0; 4]), Some("its header is damaged")),
        ("overflow.safetensors", safetensors(&entry("F32", "[4294967296,4294967296,4,1]", 4), &[0; 4]), Some("its header is damaged")),
    ]);
}
