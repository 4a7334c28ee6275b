//! NIfTI-1 and NIfTI-2: plain, compressed, and in two files.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Desk, volume};

/// The bytes of a header of NIfTI-1, including the four that say whether extensions follow.
const HEADER: usize = 352;
/// The same of NIfTI-2, and the `sizeof_hdr` with which it begins.
const HEADER_2: usize = 544;
const LENGTH_2: i32 = 540;

pub fn plain(desk: &Desk, bytes: &[u8]) -> bool {
    volume::read(&desk.write("scan.nii", bytes))
}

/// Bytes that are no gzip are compressed first, so that a mutation reaches the header and not the checksum.
pub fn gzip(desk: &Desk, bytes: &[u8]) -> bool {
    let packed = if bytes.starts_with(&[0x1F, 0x8B]) { bytes.to_vec() } else { pack(bytes) };
    volume::read(&desk.write("scan.nii.gz", &packed))
}

/// The header, then the voxels. Voxels that begin as gzip become a compressed file.
pub fn pair(desk: &Desk, bytes: &[u8]) -> bool {
    let is_2 = bytes.starts_with(&LENGTH_2.to_le_bytes()) || bytes.starts_with(&LENGTH_2.to_be_bytes());
    let (header, voxels) = bytes.split_at(bytes.len().min(if is_2 { HEADER_2 } else { HEADER }));
    desk.write("scan.img", voxels);
    volume::read(&desk.write("scan.hdr", header))
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory takes it");
    packed.finish().expect("memory takes it")
}
