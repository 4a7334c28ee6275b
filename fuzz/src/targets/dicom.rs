//! DICOM: a file, and a folder of them.

use meddino::ct::{Volume, series};

use super::{Desk, volume};

/// What stands between two files of a folder: no byte of it is usual in a file, and it is of even length, as all of DICOM is.
const BETWEEN: &[u8] = b"\xFF{file}\xFF";
/// How many files a folder has at most.
const FILES: usize = 12;

pub fn file(desk: &Desk, bytes: &[u8]) -> bool {
    volume::read(&desk.write("IM0", bytes))
}

/// As many files as [`BETWEEN`] cuts the bytes into.
pub fn folder(desk: &Desk, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    for number in 0..FILES {
        let (one, next) = cut(rest);
        desk.write(&format!("series/IM{number}"), one);
        let Some(next) = next else { break };
        rest = next;
    }
    let path = desk.path("series");
    let opened = volume::read(&path);
    let Ok(table) = series(&path) else {
        assert!(!opened, "a folder opens, but holds no series");
        return false;
    };
    assert!(!table.is_empty(), "a table of nothing");
    for row in &table {
        assert!(row.slices > 0 && !row.size.contains(&0), "{row}");
        let _ = Volume::open_series(&path, Some(&row.number.to_string()));
        let _ = Volume::open_series(&path, Some(&row.uid));
    }
    opened
}

/// The bytes up to [`BETWEEN`], and those behind it.
fn cut(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        Some(at) => (&bytes[..at], Some(&bytes[at + BETWEEN.len()..])),
        None => (bytes, None),
    }
}
