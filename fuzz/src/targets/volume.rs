//! Checks that hold for every scan that opens.

use std::path::Path;

use meddino::ct::{Orient, Volume, files_of};

/// The number of slices that are read from the beginning of a scan.
const SLICES: usize = 40;
/// The most voxels of a scan that is turned, because slices across the stored ones are written to disk as a whole.
const TURNED: usize = 1 << 20;

/// Opens and reads the scan at `path`. Returns whether it opened.
pub fn read(path: &Path) -> bool {
    let _ = files_of(path);
    let Ok(mut volume) = Volume::open(path) else { return false };
    let [slices, height, width] = [volume.slices(), volume.height(), volume.width()];
    assert!(slices > 0 && height > 0 && width > 0, "a scan of {slices} x {height} x {width}");
    sensible(&volume);
    let first = slice(&mut volume, 0);
    (1..slices.min(SLICES)).chain([slices - 1]).for_each(|index| drop(slice(&mut volume, index)));
    // Reading backwards makes a compressed file go to disk. Damage at its end may be found only now.
    if let (Some(first), Some(again)) = (first, slice(&mut volume, 0)) {
        assert!(first == again, "slice 0, read again, holds other values");
    }
    if slices.saturating_mul(height * width) <= TURNED
        && let Ok(mut turned) = volume.oriented(Orient::Lps)
    {
        let mut sides = [turned.slices(), turned.height(), turned.width()];
        let mut stored = [slices, height, width];
        sides.sort_unstable();
        stored.sort_unstable();
        assert_eq!(sides, stored, "turned, a scan has other sides");
        sensible(&turned);
        slice(&mut turned, 0);
    }
    true
}

/// Checks that the affine is finite if there is one, and that warnings are single lines.
fn sensible(volume: &Volume) {
    if let Some(affine) = volume.affine() {
        assert!(affine.rows.iter().flatten().all(|v| v.is_finite()), "{affine:?}");
    }
    let _ = volume.geometry();
    assert!(volume.warnings().iter().all(|warning| !warning.contains('\n')), "{:?}", volume.warnings());
}

/// The bits of a slice's values, which must be finite, or `None` if the slice cannot be read.
fn slice(volume: &mut Volume, index: usize) -> Option<Vec<u32>> {
    let slice = volume.read_slice(index).ok()?;
    assert_eq!(slice.shape(), [volume.height(), volume.width()], "slice {index}");
    assert!(slice.data().iter().all(|v| v.is_finite()), "slice {index} holds what is no HU");
    Some(slice.data().iter().map(|v| v.to_bits()).collect())
}
