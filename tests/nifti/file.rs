//! Writes NIfTI-1 files, field by field as in `nifti1.h`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use meddino::ct::Volume;
use tempfile::TempDir;

/// The fields and voxels of a file.
#[derive(Clone)]
pub struct Nifti {
    pub big_endian: bool,
    pub size: i32,
    /// The stored sizes: the number of axes first.
    pub dim: [i16; 8],
    pub datatype: i16,
    /// qfac first.
    pub pixdim: [f32; 8],
    pub vox_offset: f32,
    pub slope: f32,
    pub intercept: f32,
    pub units: u8,
    pub qform_code: i16,
    pub sform_code: i16,
    /// The quaternion's b, c and d, and the offset.
    pub quatern: [f32; 6],
    pub srow: [f32; 12],
    pub magic: [u8; 4],
    /// The bytes between header and voxels.
    pub extension: Vec<u8>,
    pub voxels: Vec<u8>,
}

impl Nifti {
    /// A volume of i16, [k, j, i] = `shape`, in RAS+, with voxels of 1 mm and its first voxel at the origin.
    pub fn i16(shape: [i16; 3], values: impl IntoIterator<Item = i16>) -> Self {
        let [k, j, i] = shape;
        Self {
            big_endian: false,
            size: 348,
            dim: [3, i, j, k, 1, 1, 1, 1],
            datatype: 4,
            pixdim: [1.0; 8],
            vox_offset: 352.0,
            slope: 1.0,
            intercept: 0.0,
            units: 2,
            qform_code: 0,
            sform_code: 1,
            quatern: [0.0; 6],
            srow: [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            magic: *b"n+1\0",
            extension: vec![0; 4],
            voxels: values.into_iter().flat_map(i16::to_le_bytes).collect(),
        }
    }

    /// A volume of 2 x 3 x 4 voxels, [k, j, i], with the values 100 k + 10 j + i - 20.
    pub fn numbered() -> Self {
        Self::i16([2, 3, 4], (0..24).map(|n| 100 * (n / 12) + 10 * (n / 4 % 3) + n % 4 - 20))
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The header: 348 bytes.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = vec![0; 348];
        let mut put = |at: usize, value: &[u8]| {
            // `number` takes little-endian bytes.
            let mut value = value.to_vec();
            if self.big_endian {
                value.reverse();
            }
            bytes[at..at + value.len()].copy_from_slice(&value);
        };
        put(0, &self.size.to_le_bytes());
        self.dim.iter().enumerate().for_each(|(i, v)| put(40 + 2 * i, &v.to_le_bytes()));
        put(70, &self.datatype.to_le_bytes());
        self.pixdim.iter().enumerate().for_each(|(i, v)| put(76 + 4 * i, &v.to_le_bytes()));
        put(108, &self.vox_offset.to_le_bytes());
        put(112, &self.slope.to_le_bytes());
        put(116, &self.intercept.to_le_bytes());
        put(123, &[self.units]);
        put(252, &self.qform_code.to_le_bytes());
        put(254, &self.sform_code.to_le_bytes());
        self.quatern.iter().enumerate().for_each(|(i, v)| put(256 + 4 * i, &v.to_le_bytes()));
        self.srow.iter().enumerate().for_each(|(i, v)| put(280 + 4 * i, &v.to_le_bytes()));
        bytes[344..].copy_from_slice(&self.magic);
        bytes
    }

    /// The whole file. `voxels` are written unchanged, whatever the byte order.
    pub fn bytes(&self) -> Vec<u8> {
        [self.header(), self.extension.clone(), self.voxels.clone()].concat()
    }
}

/// `bytes`, compressed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// A temporary folder of files.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Writes a volume and opens it.
    pub fn open(&self, name: &str, bytes: &[u8]) -> Volume {
        Volume::open(self.write(name, bytes)).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// All values of a volume, slice by slice.
pub fn read(scan: &mut Volume) -> Vec<f32> {
    (0..scan.slices()).flat_map(|s| scan.read_slice(s).unwrap_or_else(|e| panic!("{e}")).data().to_vec()).collect()
}
