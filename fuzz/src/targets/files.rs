//! Bytes that are several files.

use std::path::PathBuf;

use super::Desk;

/// The separator between two files. Its bytes are rare in files, and its length is even, as DICOM's lengths are.
const BETWEEN: &[u8] = b"\xFF{file}\xFF";

/// The bytes before and after the first [`BETWEEN`].
pub fn cut(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        Some(at) => (&bytes[..at], Some(&bytes[at + BETWEEN.len()..])),
        None => (bytes, None),
    }
}

/// Writes the bytes before [`BETWEEN`] as `header`, and those after it as `data`. Returns the path of `header`, or
/// `None` if the bytes are one file.
pub fn in_two(desk: &Desk, bytes: &[u8], header: &str, data: &str) -> Option<PathBuf> {
    let (head, rest) = cut(bytes);
    desk.write(data, rest?);
    Some(desk.write(header, head))
}
