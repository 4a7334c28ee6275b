//! Damaged, misleading and hostile files: each is refused by name and reason, or read with a warning, and no claim in a
//! header makes meddino take memory for it.

use std::fs::{self, File};
use std::process::Command;

use meddino::ct::{Orient, Volume};

use super::file::{Folder, Nifti, gzip};

/// Writes each case under its name, opens it, turns it to LPS, reads it, and compares the error with the expected one.
/// `None` means that no error is expected.
fn check(cases: Vec<(&str, Vec<u8>, Option<&str>)>) {
    let folder = Folder::new();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let path = folder.write(name, &bytes);
        let read = Volume::open(&path).and_then(|scan| {
            let mut scan = scan.oriented(Orient::Lps)?;
            (0..scan.slices()).try_for_each(|s| scan.read_slice(s).map(drop))
        });
        let result = read.map_err(|e| e.to_string());
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

fn with(change: impl FnOnce(&mut Nifti)) -> Vec<u8> {
    Nifti::numbered().with(change).bytes()
}

#[test]
fn headers() {
    let fine = Nifti::numbered().bytes();
    check(vec![
        ("fine.nii", fine.clone(), None),
        ("nothing.nii", Vec::new(), Some("not a NIfTI file: it is empty or ends inside its header")),
        ("nothing.nii.gz", Vec::new(), Some("not a NIfTI file")),
        ("cut_header.nii", fine[..200].to_vec(), Some("it ends inside its header")),
        ("garbage.nii", vec![0x5A; 4096], Some("it begins neither as one nor as gzip")),
        ("garbage.nii.gz", vec![0x5A; 4096], Some("it begins neither as one nor as gzip")),
        ("png.nii", b"\x89PNG\r\n\x1a\n0000000000000000".to_vec(), Some("not a NIfTI file")),
        (
            "analyze.nii",
            with(|f| f.magic = [0; 4]),
            Some(r#"its magic is "\x00\x00\x00\x00", and neither "n+1\x00" nor "ni1\x00" of NIfTI-1"#),
        ),
        ("mixed_endian.nii", with(|f| (f.size, f.dim[0]) = (348, 768)), Some("byte order")),
        ("no_axes.nii", with(|f| f.dim[0] = 0), Some("0 axes, expected 1 to 7")),
        ("line.nii", with(|f| f.dim[0] = 1), Some("found a line of 4 values")),
        ("no_rows.nii", with(|f| f.dim[2] = 0), Some("[4, 0, 2] voxels along its axes")),
        ("negative.nii", with(|f| f.dim[3] = -2), Some("[4, 3, -2] voxels along its axes")),
        (
            "four_volumes.nii",
            with(|f| f.dim = [4, 4, 3, 2, 4, 1, 1, 1]),
            Some("holds 4 volumes: [4, 3, 2, 4]; expected one. Split it first"),
        ),
        ("volumes_of_none.nii", with(|f| f.dim = [5, 4, 3, 2, 0, 3, 1, 1]), Some("holds 3 volumes")),
        ("minus_one_volume.nii", with(|f| f.dim = [4, 4, 3, 2, -1, 1, 1, 1]), Some("[4, 3, 2, -1] voxels along its axes")),
        ("no_slices.nii", with(|f| f.dim = [4, 4, 3, 0, 1, 1, 1, 1]), Some("[4, 3, 0, 1] voxels along its axes")),
        ("vectors.nii", with(|f| f.dim = [5, 4, 3, 2, 1, 3, 1, 1]), Some("holds 3 volumes")),
        ("wide.nii", with(|f| f.dim[1] = 20_000), Some("beyond 16384 pixels a side")),
        ("bits.nii", with(|f| f.datatype = 1), Some("single bits: a mask, and no HU")),
        ("colours.nii", with(|f| f.datatype = 128), Some("colours (RGB)")),
        ("colours_alpha.nii", with(|f| f.datatype = 2304), Some("colours (RGB)")),
        ("complex.nii", with(|f| f.datatype = 32), Some("complex numbers")),
        ("quadruple.nii", with(|f| f.datatype = 1536), Some("floats of 128 bits")),
        ("unknown.nii", with(|f| f.datatype = 77), Some("unknown datatype 77")),
        ("unscaled.nii", with(|f| (f.slope, f.intercept) = (2.0, f32::NAN)), Some("scl_inter is NaN")),
        ("pair_alone.nii", with(|f| f.magic = *b"ni1\0"), Some("the voxels are in another file")),
        ("half_a_pair.hdr", fine.clone(), Some("of which half_a_pair.img is missing")),
        ("other_half.img", fine.clone(), Some("of which other_half.hdr is missing")),
    ]);
}

/// What NIfTI-2 has beyond NIfTI-1: sizes of 64 bits, and a magic that shows changed ends of lines.
#[test]
fn headers_of_nifti_2() {
    let file = || Nifti::numbered().as_2();
    let with = |change: fn(&mut Nifti)| file().with(change).bytes();
    let fine = file().bytes();
    let as_text = [&fine[..8], b"\n", &fine[10..]].concat();
    let at = |offset: usize, bytes: &[u8]| {
        let mut file = fine.clone();
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        file
    };
    let dims = |dims: [i64; 3]| with_dims(&file(), dims);
    let huge = dims([16_384, 16_384, 1 << 24]);
    check(vec![
        ("fine.nii", fine.clone(), None),
        ("fine.nii.gz", gzip(&fine), None),
        ("fine_big.nii", with(|f| (f.big_endian, f.voxels) = (true, vec![0; 48])), None),
        ("size_alone.nii", fine[..4].to_vec(), Some("it ends inside its header")),
        ("cut_at_348.nii", fine[..348].to_vec(), Some("it ends inside its header")),
        ("cut_at_539.nii.gz", gzip(&fine[..539]), Some("it ends inside its header")),
        ("magic_of_1.nii", with(|f| f.magic = *b"n+1\0"), Some(r#"its magic is "n+1\x00\r\n\x1a\n", and neither "n+2\x00\r\n\x1a\n" nor"#)),
        ("as_text.nii", as_text, Some("a program that changes the ends of lines damages the file")),
        ("size_of_1.nii", with(|f| f.size = 348), Some("neither \"n+1")),
        ("pair_alone.nii", with(|f| f.magic = *b"ni2\0"), Some("the voxels are in another file")),
        ("no_axes.nii", with(|f| f.dim[0] = 0), Some("0 axes, expected 1 to 7")),
        ("axes_of_another_order.nii", with(|f| f.dim[0] = 3_i64.swap_bytes()), Some("216172782113783808 axes")),
        ("minus_one_axis.nii", with(|f| f.dim[0] = -1), Some("-1 axes")),
        ("most_negative.nii", dims([4, 3, i64::MIN]), Some("[4, 3, -9223372036854775808] voxels along its axes")),
        ("wide.nii", dims([16_385, 3, 2]), Some("beyond 16384 pixels a side")),
        ("wider_than_32_bits.nii", dims([(1 << 32) + 4, 3, 2]), Some("beyond 16384 pixels a side")),
        ("deep.nii", dims([4, 3, (1 << 24) + 1]), Some("16777217 slices are beyond 16777216")),
        ("deepest.nii", dims([4, 3, i64::MAX]), Some("slices are beyond 16777216")),
        ("many_volumes.nii", with(|f| f.dim = [7, 4, 3, 2, i64::MAX, i64::MAX, i64::MAX, 4]), Some("holds 18446744073709551615 volumes")),
        ("huge.nii", huge.clone(), Some("promises 9007199254740992 bytes of voxels at byte 544, but it ends at byte 592")),
        ("huge.nii.gz", gzip(&huge), Some("bytes of gzip cannot hold so much")),
        ("short.nii", fine[..fine.len() - 1].to_vec(), Some("promises 48 bytes of voxels at byte 544, but it ends at byte 591")),
        ("offset_inside.nii", at(168, &543_i64.to_le_bytes()), Some("at byte 543 (vox_offset), inside the header")),
        ("offset_beyond.nii", at(168, &600_i64.to_le_bytes()), Some("at byte 600, but it ends at byte 592")),
        ("offset_negative.nii", at(168, &(-544_i64).to_le_bytes()), Some("begin at byte -544")),
        ("offset_huge.nii", at(168, &i64::MAX.to_le_bytes()), Some("(vox_offset)")),
        ("offset_none.nii", at(168, &[0; 8]), None),
        ("slope_nan.nii", at(176, &f64::NAN.to_le_bytes()), None),
        ("unscaled.nii", at(184, &f64::NAN.to_le_bytes()), Some("scl_inter is NaN")),
        ("bits.nii", with(|f| f.datatype = 1), Some("single bits: a mask, and no HU")),
        ("half_a_pair.hdr", fine.clone(), Some("of which half_a_pair.img is missing")),
    ]);
}

fn with_dims(file: &Nifti, [width, height, slices]: [i64; 3]) -> Vec<u8> {
    file.clone().with(|f| f.dim[1..4].copy_from_slice(&[width, height, slices])).bytes()
}

#[test]
fn sizes() {
    let fine = Nifti::numbered().bytes();
    let huge = with(|f| (f.dim, f.datatype) = ([3, 16_384, 16_384, 32_767, 1, 1, 1, 1], 64));
    let two_60 = with(|f| f.dim = [7, 32_767, 32_767, 32_767, 32_767, 1, 1, 1]);
    let offset = |n: f32| with(|f| f.vox_offset = n);
    let zipped = gzip(&fine);
    let (half, rest) = (gzip(&fine[..380]), gzip(&fine[380..]));
    let mut wrong_member = half.clone();
    wrong_member[half.len() - 6] ^= 0xFF;
    let broken = |at: usize| {
        let mut bytes = zipped.clone();
        bytes[at] ^= 0xFF;
        bytes
    };
    check(vec![
        ("short.nii", fine[..fine.len() - 1].to_vec(), Some("promises 48 bytes of voxels at byte 352, but it ends at byte 399")),
        ("no_voxels.nii", fine[..352].to_vec(), Some("but it ends at byte 352")),
        ("huge.nii", huge.clone(), Some("promises 70366596694016 bytes")),
        ("huge.nii.gz", gzip(&huge), Some("bytes of gzip cannot hold so much")),
        ("two_to_the_60.nii", two_60.clone(), Some("holds 32767 volumes")),
        ("two_to_the_60.nii.gz", gzip(&two_60), Some("holds 32767 volumes")),
        ("short.nii.gz", gzip(&fine[..390]), Some("end after 390 inflated bytes of 400")),
        ("cut.nii.gz", zipped[..zipped.len() - 12].to_vec(), Some("the file is damaged or was cut short")),
        ("no_checksum.nii.gz", zipped[..zipped.len() - 8].to_vec(), Some("its gzip data are damaged")),
        ("wrong_checksum.nii.gz", broken(zipped.len() - 6), Some("its gzip data are damaged: corrupt")),
        ("wrong_member.nii.gz", [&wrong_member[..], &rest].concat(), Some("its gzip data are damaged")),
        ("garbage_between.nii.gz", [&half[..], b"garbage", &rest].concat(), Some("end after 380 inflated bytes of 400")),
        ("no_second_member.nii.gz", [&half[..], &[0; 99]].concat(), Some("end after 380 inflated bytes of 400")),
        ("cut_second_member.nii.gz", [&half[..], &rest[..5]].concat(), Some("end after 380 inflated bytes of 400")),
        ("no_method.nii.gz", [&half[..], b"\x1F\x8B\x07", &rest[3..]].concat(), Some("damaged after 380 inflated bytes")),
        ("magic_alone.nii.gz", zipped[..2].to_vec(), Some("it is empty or ends inside its header")),
        ("broken_stream.nii.gz", [&zipped[..10], &[0xFF; 64]].concat(), Some("its gzip data are damaged")),
        ("offset_beyond.nii", offset(100_000.0), Some("at byte 100000, but it ends at byte 400")),
        ("offset_beyond.nii.gz", gzip(&offset(400_000.0)), Some("cannot hold so much")),
        ("offset_inside.nii", offset(348.0), Some("at byte 348 (vox_offset), inside the header")),
        ("offset_nan.nii", offset(f32::NAN), Some("begin at byte NaN")),
        ("offset_negative.nii", offset(-352.0), Some("begin at byte -352")),
        ("offset_huge.nii", offset(1e30), Some("(vox_offset)")),
        ("offset_fraction.nii", offset(352.5), Some("begin at byte 352.5")),
        ("offset_none.nii", offset(0.0), None),
    ]);
}

#[test]
fn invalid_positions() {
    let broken = |axis: usize, value: f32| Nifti::numbered().with(|f| (0..3).for_each(|row| f.srow[row * 4 + axis] = value));
    let flat = |f: &mut Nifti| f.srow = [1.0, 2.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    let nan_quaternion = |f: &mut Nifti| (f.sform_code, f.qform_code, f.quatern[0]) = (0, 1, f32::NAN);
    let nan_size = |f: &mut Nifti| (f.sform_code, f.pixdim[1]) = (0, f32::INFINITY);
    let files = [
        ("nan.nii", broken(1, f32::NAN)),
        ("nan_origin.nii", broken(3, f32::NAN)),
        ("zero_spacing.nii", broken(2, 0.0)),
        ("infinite.nii", broken(0, f32::INFINITY)),
        ("flat.nii", Nifti::numbered().with(flat)),
        ("nan_quaternion.nii", Nifti::numbered().with(nan_quaternion)),
        ("infinite_size.nii", Nifti::numbered().with(nan_size)),
    ];
    let folder = Folder::new();
    for (name, file) in &files {
        let scan = folder.open(name, &file.bytes());
        assert_eq!(scan.affine(), None, "{name}");
        let error = scan.oriented(Orient::Lps).expect_err(name).to_string();
        assert!(error.contains("its affine makes no sense: [[") && error.contains("`orient` stored"), "{error}");
        let mut scan = folder.open(name, &file.bytes()).oriented(Orient::Stored).unwrap_or_else(|e| panic!("{e}"));
        assert!(scan.warnings().iter().any(|w| w.contains("the position of its voxels is not known")), "{name}: {:?}", scan.warnings());
        assert_eq!(scan.affine(), None, "{name}");
        assert_eq!(scan.read_slice(1).expect("a slice").data()[0], 80.0, "{name}");
    }
}

#[test]
fn unusual_files_get_warnings() {
    let folder = Folder::new();
    let warnings = |bytes: &[u8], orient: Orient| {
        let scan = folder.open("a.nii", bytes).oriented(orient).unwrap_or_else(|e| panic!("{e}"));
        scan.warnings().join("; ")
    };
    assert_eq!(warnings(&Nifti::numbered().bytes(), Orient::Lps), "");
    let longer = with(|f| f.voxels.extend([0; 5]));
    assert!(warnings(&longer, Orient::Lps).starts_with("5 bytes follow the last voxel"));
    assert!(warnings(&with(|f| f.vox_offset = 0.0), Orient::Lps).contains("(vox_offset 0); byte 352 was taken"));
    // A rotation by 1 in 100 about the third axis: 0.57 degrees.
    let oblique = with(|f| (f.srow[1], f.srow[4]) = (-0.01, 0.01));
    assert!(
        warnings(&oblique, Orient::Lps).starts_with("oblique: its axes are up to 0.6 degrees off"),
        "{}",
        warnings(&oblique, Orient::Lps)
    );
    assert_eq!(warnings(&oblique, Orient::Stored), "");
    let oblong = with(|f| f.srow[0] = 3.0);
    for orient in [Orient::Lps, Orient::Stored] {
        assert!(warnings(&oblong, orient).contains("3.000 mm wide and 1.000 mm high"), "{}", warnings(&oblong, orient));
    }
    // Stored as sagittal slices of 1 x 3 mm. Turned, they are axial slices of 1 x 1 mm.
    let sagittal = with(|f| (f.srow, f.pixdim[2]) = ([0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0], 3.0));
    assert!(warnings(&sagittal, Orient::Stored).contains("1.000 mm wide and 3.000 mm high"));
    assert_eq!(warnings(&sagittal, Orient::Lps), "");
}

#[test]
fn missing_files_and_folders() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("folder.nii")).expect("created");
    // A folder may be refused as a file or as an empty folder.
    for (name, accepted) in [("folder.nii", ["not a file", "the folder is empty"]), ("missing.nii.gz", ["No such file", "cannot find"])] {
        let error = Volume::open(folder.path().join(name)).expect_err(name).to_string();
        assert!(error.starts_with("input ") && accepted.iter().any(|s| error.contains(s)), "{error}");
    }
}

/// The file is as long as its header says but sparse on disk. Opening must not take the memory that the header
/// promises.
#[test]
fn terabytes_are_read_one_slice_at_a_time() {
    let folder = Folder::new();
    let path = folder.write("sparse.nii", &with(|f| f.dim = [3, 4096, 4096, 32_767, 1, 1, 1, 1]));
    let file = File::options().write(true).open(&path).expect("opened");
    if file.set_len(352 + 4096 * 4096 * 32_767 * 2).is_err() {
        eprintln!("this file system has no sparse files of a terabyte: not tested");
        return;
    }
    let mut scan = Volume::open(&path).expect("a volume").oriented(Orient::Lps).expect("turned");
    assert_eq!(scan.slices(), 32_767);
    assert!(scan.read_slice(32_766).expect("the last slice").data().iter().all(|&v| v == 0.0));
}

/// Slices across the stored ones need a temporary file. Without its folder, or without room in it, an error says so.
#[cfg(all(unix, feature = "cli"))]
#[test]
fn a_missing_or_full_temporary_folder_is_an_error() {
    let folder = Folder::new();
    let sagittal = Nifti::i16([16, 32, 32], (0..16 * 32 * 32).map(|n| n as i16))
        .with(|f| f.srow = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let path = folder.write("sagittal.nii", &sagittal.bytes());
    let features = |before: &str, temporary: &str| {
        let command = format!(
            "{before} exec {} features {} -c seeded:0:micro --backend cpu --slices 0 --tokens cls -o {}/f.safetensors",
            env!("CARGO_BIN_EXE_meddino"),
            path.display(),
            folder.path().display()
        );
        let output = Command::new("sh").args(["-c", &command]).env("TMPDIR", temporary).output().expect("started");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let here = folder.path().display().to_string();
    let (code, messages) = features("", &here);
    assert_eq!(code, Some(0), "{messages}");
    let (code, messages) = features("", &format!("{here}/missing"));
    assert!(
        code == Some(1) && messages.contains("a temporary file of 1 MiB in") && messages.contains("another folder in TMPDIR"),
        "{messages}"
    );
    // A file size limit of 8 blocks acts like a full disk.
    let (code, messages) = features("trap '' XFSZ; ulimit -f 8;", &here);
    assert!(
        code == Some(1) && messages.contains("a temporary file of 1 MiB in") && messages.contains("make room there"),
        "{code:?} {messages}"
    );
}
