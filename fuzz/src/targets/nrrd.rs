//! NRRD: a text header and its voxels in one file or in two.

use super::files::in_two;
use super::{Desk, volume};

pub fn read(desk: &Desk, bytes: &[u8]) -> bool {
    volume::read(&in_two(desk, bytes, "scan.nhdr", "scan.raw").unwrap_or_else(|| desk.write("scan.nrrd", bytes)))
}
