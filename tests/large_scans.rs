//! Scans of more than 4 GiB, of which no byte is on a disk: every offset in a file is counted in 64 bits, on a machine of
//! 32 bits and in a browser as well (`web/tests/library.mjs` has the same for a browser).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use meddino::archive::LentFile;
use meddino::ct::Volume;

/// Slices, rows and columns of f64: 4.4 GiB.
const SHAPE: [u64; 3] = [9000, 256, 256];
const SIZE: u64 = 8;

/// A file whose every voxel is the number of its slice.
struct Counting {
    header: Vec<u8>,
}

impl LentFile for Counting {
    fn length(&self) -> u64 {
        self.header.len() as u64 + SHAPE.iter().product::<u64>() * SIZE
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        for (byte, at) in bytes.iter_mut().zip(at..) {
            *byte = match at.checked_sub(self.header.len() as u64) {
                None => self.header[at as usize],
                Some(at) => ((at / (SHAPE[1] * SHAPE[2] * SIZE)) as f64).to_le_bytes()[(at % SIZE) as usize],
            };
        }
        Ok(())
    }
}

fn npy(order: &str) -> Vec<u8> {
    let [s, h, w] = SHAPE;
    let shape = if order == "True" { [w, h, s] } else { [s, h, w] };
    let text = format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': ({}, {}, {}), }}\n", shape[0], shape[1], shape[2]);
    [b"\x93NUMPY\x01\0".as_slice(), &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
}

fn nifti() -> Vec<u8> {
    let mut header = vec![0; 352];
    header[..4].copy_from_slice(&348_i32.to_le_bytes());
    let [s, h, w] = SHAPE.map(|side| side as i16);
    for (i, side) in [3, w, h, s, 1, 1, 1, 1].into_iter().enumerate() {
        header[40 + 2 * i..][..2].copy_from_slice(&side.to_le_bytes());
    }
    header[70..72].copy_from_slice(&64_i16.to_le_bytes());
    header[72..74].copy_from_slice(&64_i16.to_le_bytes());
    for (i, number) in [1.0_f32; 4].into_iter().enumerate() {
        header[76 + 4 * i..][..4].copy_from_slice(&number.to_le_bytes());
    }
    header[108..112].copy_from_slice(&352_f32.to_le_bytes());
    header[254..256].copy_from_slice(&1_i16.to_le_bytes());
    for axis in 0..3 {
        header[280 + 20 * axis..][..4].copy_from_slice(&1_f32.to_le_bytes());
    }
    header[344..348].copy_from_slice(b"n+1\0");
    header
}

fn nrrd() -> Vec<u8> {
    let [s, h, w] = SHAPE;
    format!(
        "NRRD0004\ntype: double\ndimension: 3\nspace: left-posterior-superior\nsizes: {w} {h} {s}\n\
         space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\nendian: little\n\n"
    )
    .into()
}

fn metaimage() -> Vec<u8> {
    let [s, h, w] = SHAPE;
    format!(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n\
         TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = {w} {h} {s}\n\
         ElementType = MET_DOUBLE\nElementDataFile = LOCAL\n"
    )
    .into()
}

fn open(name: &str, header: Vec<u8>) -> Volume {
    let file: (PathBuf, Arc<dyn LentFile>) = (name.into(), Arc::new(Counting { header }));
    Volume::from_files("large", [file], None).expect(name)
}

#[test]
fn slices_beyond_4_gib_are_those_that_were_asked_for() {
    for (name, header) in [("a.npy", npy("False")), ("a.nii", nifti()), ("a.nrrd", nrrd()), ("a.mha", metaimage())] {
        let mut scan = open(name, header);
        for index in [0, 8191, 8192, 8999] {
            let slice = scan.read_slice(index).expect(name);
            let want = index as f32;
            assert!(slice.data().iter().all(|v| v.to_bits() == want.to_bits()), "{name}: slice {index} begins with {}", slice.data()[0]);
        }
    }
}

/// Fortran's order needs the whole array at once, which no machine of 32 bits holds.
#[cfg(target_pointer_width = "32")]
#[test]
fn an_array_that_is_needed_whole_and_is_too_large_is_an_error() {
    let error = open("a.npy", npy("True")).read_slice(0).expect_err("too large").to_string();
    assert!(error.contains("Fortran order needs all of its 4718592000 bytes in memory at once; save it in C order"), "{error}");
}
