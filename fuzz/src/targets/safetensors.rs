//! Safetensors files that are no checkpoint: images, features, and colour bases.

use std::path::PathBuf;

use meddino::ct::Images;
use meddino::maps::BasisFile;
use meddino::output::StoredFeatures;

use super::Desk;

/// The most bytes of values after a header.
const VALUES: usize = 1 << 16;

pub fn images(desk: &Desk, bytes: &[u8]) -> bool {
    let Ok(images) = Images::open(write(desk, bytes)) else { return false };
    let [b, c, h, w] = images.shape();
    assert!(b * c * h * w > 0, "{:?}", images.shape());
    for index in (0..b.min(40)).chain([b - 1]) {
        if let Ok(image) = images.read(index) {
            assert_eq!(image.shape(), [1, c, h, w]);
            assert!(image.data().iter().all(|v| v.is_finite()), "image {index}");
        }
    }
    true
}

pub fn features(desk: &Desk, bytes: &[u8]) -> bool {
    let Ok(features) = StoredFeatures::open(write(desk, bytes)) else { return false };
    let (grid, (height, width), patch) = (features.grid(), features.image(), features.patch_size());
    assert!(grid.patches() > 0 && features.width() > 0 && !features.slices().is_empty(), "{features:?}");
    assert!(grid.rows * patch <= height && grid.cols * patch <= width, "{features:?}");
    let _ = (features.size(), features.orient(), features.patch_mm());
    for index in (0..features.slices().len().min(40)).chain([features.slices().len() - 1]) {
        if let Ok(tokens) = features.patches(index) {
            assert_eq!(tokens.data().len(), grid.patches() * features.width());
            assert!(tokens.data().iter().all(|v| v.is_finite()), "slice {index}");
        }
    }
    true
}

pub fn basis(desk: &Desk, bytes: &[u8]) -> bool {
    let Ok(file) = BasisFile::open(&write(desk, bytes)) else { return false };
    assert!(file.limits.0 <= file.limits.1, "{:?}", file.limits);
    let again = desk.path("again.safetensors");
    file.save(&again).expect("what was read can be written");
    assert_eq!(BasisFile::open(&again).expect("and read again"), file);
    true
}

fn write(desk: &Desk, bytes: &[u8]) -> PathBuf {
    desk.write("file.safetensors", &framed(bytes))
}

/// Bytes that begin as JSON become a file: the header's length goes before them, and values up to the highest offset
/// follow.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(b"{") {
        return bytes.to_vec();
    }
    // A small value that differs from its neighbours, in f32, bf16 and f16 alike.
    let values = (0..highest_offset(bytes)).map(|i| if i % 2 == 1 { 0x3C } else { (i * 29) as u8 });
    (bytes.len() as u64).to_le_bytes().into_iter().chain(bytes.iter().copied()).chain(values).collect()
}

/// The highest end of a `data_offsets`, at most [`VALUES`].
fn highest_offset(text: &[u8]) -> usize {
    const KEY: &[u8] = b"\"data_offsets\":[";
    let ends = text.windows(KEY.len()).enumerate().filter(|(_, window)| *window == KEY).filter_map(|(at, _)| {
        let mut numbers = text[at + KEY.len()..].split(|b| !b.is_ascii_digit());
        numbers.nth(1).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok())
    });
    ends.max().unwrap_or(0).min(VALUES)
}
