//! Values: every type, byte order, scaling and container gives the values of nibabel's `get_fdata`.

use meddino::ct::Volume;

use super::file::{Folder, Nifti, gzip, read};

/// The values 100 k + 10 j + i + `base` of 2 x 3 x 4 voxels.
fn numbered(base: i32) -> Vec<i32> {
    (0..24).map(|n| 100 * (n / 12) + 10 * (n / 4 % 3) + n % 4 + base).collect()
}

/// (datatype, its name, whether it is signed, a function from a number to its little-endian bytes)
type Kind = (i16, &'static str, bool, fn(i32) -> Vec<u8>);

const KINDS: [Kind; 10] = [
    (2, "uint8", false, |v| (v as u8).to_le_bytes().to_vec()),
    (4, "int16", true, |v| (v as i16).to_le_bytes().to_vec()),
    (8, "int32", true, |v| v.to_le_bytes().to_vec()),
    (16, "float32", true, |v| (v as f32).to_le_bytes().to_vec()),
    (64, "float64", true, |v| f64::from(v).to_le_bytes().to_vec()),
    (256, "int8", true, |v| (v as i8).to_le_bytes().to_vec()),
    (512, "uint16", false, |v| (v as u16).to_le_bytes().to_vec()),
    (768, "uint32", false, |v| (v as u32).to_le_bytes().to_vec()),
    (1024, "int64", true, |v| i64::from(v).to_le_bytes().to_vec()),
    (1280, "uint64", false, |v| (v as u64).to_le_bytes().to_vec()),
];

#[test]
fn every_type_in_either_byte_order_and_container() {
    let folder = Folder::new();
    for (datatype, name, signed, to_bytes) in KINDS {
        for big_endian in [false, true] {
            let values = numbered(if signed { -20 } else { 0 });
            let bytes = |&v: &i32| {
                let mut bytes = to_bytes(v);
                if big_endian {
                    bytes.reverse();
                }
                bytes
            };
            let file = Nifti::numbered().with(|f| {
                (f.datatype, f.big_endian) = (datatype, big_endian);
                f.voxels = values.iter().flat_map(bytes).collect();
            });
            let want: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            for (ending, bytes) in
                [("nii", file.bytes()), ("nii.gz", gzip(&file.bytes())), ("NII", file.bytes()), ("Nii.GZ", gzip(&file.bytes()))]
            {
                let case = format!("{name} {big_endian}.{ending}");
                let mut scan = folder.open(&case, &bytes);
                assert_eq!((scan.slices(), scan.height(), scan.width()), (2, 3, 4), "{case}");
                assert_eq!(read(&mut scan), want, "{case}");
                // Backwards first, then forwards: slices can be read in any order, any number of times.
                for s in [1, 0, 1, 1, 0] {
                    assert_eq!(scan.read_slice(s).expect("a slice").data(), &want[s * 12..][..12], "{case}, slice {s}");
                }
                assert!(scan.warnings().is_empty(), "{case}: {:?}", scan.warnings());
                assert_eq!(scan.about()[0], ("format", "NIfTI-1".to_owned()));
            }
        }
    }
}

#[test]
fn values_are_scaled_in_f64_and_rounded_once() {
    let folder = Folder::new();
    let stored: Vec<i16> = (0..24).map(|n| n * 1367 - 16_000).collect();
    // The last value: whether rounding twice in f32 would change the result.
    let cases = [(0.1, 0.0, false), (1.0, -1024.0, false), (2.0, -1024.5, false), (-0.3, 7.7, true), (1e-3, 1e4, false), (1.7, -0.1, true)];
    for (slope, intercept, telling) in cases {
        let file = Nifti::i16([2, 3, 4], stored.iter().copied()).with(|f| (f.slope, f.intercept) = (slope, intercept));
        let want: Vec<f32> = stored.iter().map(|&v| (f64::from(v) * f64::from(slope) + f64::from(intercept)) as f32).collect();
        assert_eq!(read(&mut folder.open("a.nii", &file.bytes())), want, "{slope} {intercept}");
        let in_f32: Vec<f32> = stored.iter().map(|&v| f32::from(v) * slope + intercept).collect();
        assert_eq!(in_f32 != want, telling, "{slope} {intercept}");
    }
}

#[test]
fn an_invalid_scaling_is_ignored() {
    let folder = Folder::new();
    let want: Vec<f32> = numbered(-20).into_iter().map(|v| v as f32).collect();
    for (i, slope) in [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate() {
        for intercept in [0.0, 100.0, f32::NAN] {
            let file = Nifti::numbered().with(|f| (f.slope, f.intercept) = (slope, intercept));
            assert_eq!(read(&mut folder.open(&format!("{i}.nii"), &file.bytes())), want, "{slope} {intercept}");
        }
    }
}

#[test]
fn minus_zero_stays_itself() {
    let file = Nifti::i16([1, 1, 2], []).with(|f| {
        f.datatype = 16;
        f.voxels = [-0.0_f32, 1.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    });
    let got = read(&mut Folder::new().open("zero.nii", &file.bytes()));
    assert_eq!(got.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), [(-0.0_f32).to_bits(), 1.5_f32.to_bits()]);
}

#[test]
fn extensions_are_skipped() {
    // A comment of 32 bytes in all: size, code, text.
    let extension = [&[1, 0, 0, 0][..], &32_i32.to_le_bytes(), &6_i32.to_le_bytes(), &[b'x'; 24]].concat();
    let file = Nifti::numbered().with(|f| (f.extension, f.vox_offset) = (extension, 384.0));
    let want: Vec<f32> = numbered(-20).into_iter().map(|v| v as f32).collect();
    let folder = Folder::new();
    assert_eq!(read(&mut folder.open("e.nii", &file.bytes())), want);
    assert_eq!(read(&mut folder.open("e.nii.gz", &gzip(&file.bytes()))), want);
}

#[test]
fn one_slice_and_one_volume_of_more_axes() {
    let folder = Folder::new();
    let plane = Nifti::numbered().with(|f| {
        (f.dim, f.pixdim[3]) = ([2, 4, 3, 0, 0, 0, 0, 0], 0.0);
        f.voxels.truncate(24);
    });
    let scan = folder.open("plane.nii", &plane.bytes());
    assert_eq!((scan.slices(), scan.height(), scan.width()), (1, 3, 4));
    let five_axes = Nifti::numbered().with(|f| f.dim = [5, 4, 3, 2, 1, 1, 0, 0]);
    let mut scan = folder.open("one.nii", &five_axes.bytes());
    assert_eq!((scan.slices(), read(&mut scan).len()), (2, 24));
}

#[test]
fn a_pair_is_read_by_either_name() {
    let pair = Nifti::numbered().with(|f| (f.magic, f.vox_offset) = (*b"ni1\0", 0.0));
    let want: Vec<f32> = numbered(-20).into_iter().map(|v| v as f32).collect();
    for (header, image) in [("a.hdr", "a.img"), ("b.HDR", "b.IMG"), ("c.hdr", "c.img.gz"), ("d.hdr.gz", "d.img.gz")] {
        let folder = Folder::new();
        let as_named = |name: &str, bytes: &[u8]| if name.ends_with("gz") { gzip(bytes) } else { bytes.to_vec() };
        folder.write(header, &as_named(header, &pair.header()));
        folder.write(image, &as_named(image, &pair.voxels));
        for name in [header, image] {
            let mut scan = Volume::open(folder.path().join(name)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read(&mut scan), want, "{name}");
        }
    }
}

/// bgzip and pigz write several members. Padding after the last one does not belong to the content.
#[test]
fn gzip_of_several_members_and_with_padding() {
    let file = Nifti::numbered().bytes();
    let want: Vec<f32> = numbered(-20).into_iter().map(|v| v as f32).collect();
    let folder = Folder::new();
    for cut in [100, 352, 380] {
        let members = [gzip(&file[..cut]), gzip(&file[cut..])].concat();
        assert_eq!(read(&mut folder.open("members.nii.gz", &members)), want, "{cut}");
    }
    let (half, rest) = (gzip(&file[..380]), gzip(&file[380..]));
    // Bytes after the last member that start no valid member: padding, and the first bytes of a member's header.
    let endings: [&[u8]; 7] = [&[0; 512], b"garbage", &[0x1F], &[0x1F, 0x8B], b"\x1F\x8B\x08 no header", b"\0\0\x1F\x1F", &half[..12]];
    for ending in endings {
        assert_eq!(read(&mut folder.open("ended.nii.gz", &[&half, &rest, ending].concat())), want, "{ending:?}");
    }
    // Padding between members, also across the reader's buffer.
    for zeros in [1, 700, 65_536 - half.len() - 1, 100_000] {
        assert_eq!(read(&mut folder.open("padded.nii.gz", &[&half[..], &vec![0; zeros], &rest].concat())), want, "{zeros}");
    }
    assert_eq!(read(&mut folder.open("empty_member.nii.gz", &[half.clone(), gzip(&[]), rest.clone()].concat())), want);
    // The first bytes, not the name, tell whether a file is compressed.
    assert_eq!(read(&mut folder.open("really_gzip.nii", &gzip(&file))), want);
    assert_eq!(read(&mut folder.open("really_plain.nii.gz", &file)), want);
}

/// Large enough that skipping and the temporary file work in more than one chunk.
#[test]
fn slices_far_apart_in_a_compressed_file() {
    let slices = 40;
    let values = (0..slices * 160 * 256).map(|n: i32| (n / 40_960 * 100 + n % 97) as i16);
    let file = Nifti::i16([40, 160, 256], values).bytes();
    let folder = Folder::new();
    let (mut plain, mut compressed) = (folder.open("a.nii", &file), folder.open("a.nii.gz", &gzip(&file)));
    for s in [30, 31, 39, 2, 17, 0, 39] {
        assert_eq!(plain.read_slice(s).expect("a slice"), compressed.read_slice(s).expect("a slice"), "{s}");
        assert_eq!(plain.read_slice(s).expect("a slice").data()[96], (s * 100 + (s * 40_960 + 96) % 97) as f32);
    }
}
