//! NRRD: a text header and its voxels in one file.

use super::{Desk, volume};

pub fn read(desk: &Desk, bytes: &[u8]) -> bool {
    volume::read(&desk.write("scan.nrrd", bytes))
}
