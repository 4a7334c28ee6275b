//! DICOM: a single file, and a folder of files.

use meddino::ct::{Volume, series};

use super::files::cut;
use super::{Desk, volume};

/// The largest number of files in a folder.
const FILES: usize = 12;

pub fn file(desk: &Desk, bytes: &[u8]) -> bool {
    volume::read(&desk.write("IM0", bytes))
}

/// Cuts the bytes into files.
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
