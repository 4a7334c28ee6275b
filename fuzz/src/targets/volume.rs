//! Checks that hold for every scan that opens.

use std::path::Path;
use std::sync::Arc;

use meddino::archive::LentFile;
use meddino::ct::{Orient, Volume, files_of};

/// The number of slices that are read from the beginning of a scan.
const SLICES: usize = 40;
/// The most voxels of a scan that is turned, because slices across the stored ones are written to disk as a whole.
const TURNED: usize = 1 << 20;

/// Opens and reads the scan at `path`. Returns whether it opened.
pub fn read(path: &Path) -> bool {
    let lent = lent(path);
    let Ok(mut volume) = Volume::open(path) else {
        assert!(!matches!(lent, Some(Ok(_))), "lent, a scan opens that does not open from its files");
        return false;
    };
    let [slices, height, width] = [volume.slices(), volume.height(), volume.width()];
    assert!(slices > 0 && height > 0 && width > 0, "a scan of {slices} x {height} x {width}");
    sensible(&volume);
    let first = slice(&mut volume, 0);
    if let Some(lent) = lent {
        let mut lent = lent.unwrap_or_else(|e| panic!("lent, a scan does not open that opens from its files: {e}"));
        assert_eq!([lent.slices(), lent.height(), lent.width()], [slices, height, width], "lent, a scan has other sides");
        assert_eq!((lent.affine(), lent.warnings()), (volume.affine(), volume.warnings()), "lent, a scan says something else");
        assert!(slice(&mut lent, 0) == first, "lent, slice 0 holds other values");
    }
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

/// Opens the scan at `path` from copies of its files in memory. `None` if not all of its files are in one folder.
fn lent(path: &Path) -> Option<meddino::Result<Volume>> {
    let folder = if path.is_dir() { path } else { path.parent()? };
    let file = |path: std::path::PathBuf| {
        let bytes: Arc<dyn LentFile> = Arc::new(std::fs::read(&path).ok()?);
        Some((path.strip_prefix(folder).ok()?.to_owned(), bytes))
    };
    let files: Option<Vec<_>> = files_of(path).ok()?.into_iter().map(file).collect();
    Some(Volume::from_files("lent", files?, None))
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
