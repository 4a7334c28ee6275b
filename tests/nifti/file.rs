//! Writes NIfTI-1 and NIfTI-2 files, field by field as in `nifti1.h` and `nifti2.h`.

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
    /// 348 writes NIfTI-1, 540 NIfTI-2, and any other the fields of NIfTI-1.
    pub size: i32,
    /// The stored sizes: the number of axes first.
    pub dim: [i64; 8],
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
        let [k, j, i] = shape.map(i64::from);
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

    /// The same fields as a single file of NIfTI-2.
    pub fn as_2(&self) -> Self {
        self.clone().with(|f| (f.size, f.vox_offset, f.magic) = (540, f.vox_offset + 192.0, *b"n+2\0"))
    }

    /// The header: 348 bytes, or 540.
    pub fn header(&self) -> Vec<u8> {
        let is_2 = self.size == 540;
        let mut bytes = vec![0; if is_2 { 540 } else { 348 }];
        let mut put = |[at_1, at_2]: [usize; 2], value: Vec<u8>| {
            let mut value = value;
            if self.big_endian {
                value.reverse();
            }
            let at = if is_2 { at_2 } else { at_1 };
            bytes[at..at + value.len()].copy_from_slice(&value);
        };
        // Numbers are narrow in NIfTI-1 and wide in NIfTI-2.
        let size = |v: i64| if is_2 { v.to_le_bytes().to_vec() } else { (v as i16).to_le_bytes().to_vec() };
        let float = |v: f32| if is_2 { f64::from(v).to_le_bytes().to_vec() } else { v.to_le_bytes().to_vec() };
        let code = |v: i16| if is_2 { i32::from(v).to_le_bytes().to_vec() } else { v.to_le_bytes().to_vec() };
        put([0, 0], self.size.to_le_bytes().to_vec());
        self.dim.iter().enumerate().for_each(|(i, v)| put([40 + 2 * i, 16 + 8 * i], size(*v)));
        put([70, 12], self.datatype.to_le_bytes().to_vec());
        self.pixdim.iter().enumerate().for_each(|(i, v)| put([76 + 4 * i, 104 + 8 * i], float(*v)));
        put([108, 168], if is_2 { (self.vox_offset as i64).to_le_bytes().to_vec() } else { float(self.vox_offset) });
        put([112, 176], float(self.slope));
        put([116, 184], float(self.intercept));
        put([123, 500], if is_2 { i32::from(self.units).to_le_bytes().to_vec() } else { vec![self.units] });
        put([252, 344], code(self.qform_code));
        put([254, 348], code(self.sform_code));
        let forms = self.quatern.iter().chain(&self.srow);
        forms.enumerate().for_each(|(i, v)| put([256 + 4 * i, 352 + 8 * i], float(*v)));
        let magic = if is_2 { [&self.magic[..], b"\r\n\x1a\n"].concat() } else { self.magic.to_vec() };
        let at = if is_2 { 4 } else { 344 };
        bytes[at..at + magic.len()].copy_from_slice(&magic);
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
