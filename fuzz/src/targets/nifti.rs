//! NIfTI-1: plain, compressed, and in two files.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Desk, volume};

/// The bytes of a header, including the four that say whether extensions follow.
const HEADER: usize = 352;

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
    let (header, voxels) = bytes.split_at(bytes.len().min(HEADER));
    desk.write("scan.img", voxels);
    volume::read(&desk.write("scan.hdr", header))
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory takes it");
    packed.finish().expect("memory takes it")
}
