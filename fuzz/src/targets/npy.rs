//! `.npy`.

use super::{Desk, volume};

/// Bytes that begin as the text of a header are made a file: magic, version and length come before, and what follows the line is the values.
pub fn read(desk: &Desk, bytes: &[u8]) -> bool {
    volume::read(&desk.write("scan.npy", &if bytes.starts_with(b"{") { framed(bytes) } else { bytes.to_vec() }))
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| at + 1).min(usize::from(u16::MAX));
    [b"\x93NUMPY\x01\x00", &(end as u16).to_le_bytes()[..], bytes].concat()
}
