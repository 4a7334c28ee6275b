//! Reads a DICOM file, or a folder of DICOM files, into one stack of CT slices in HU.
//!
//! Data flows `folder` (which files) -> `header` (what each file says, by `element`) -> `frame` (each slice) -> `group`
//! (which slices belong together, by `traits`) -> `geometry` (their order and position) -> `series` (the user's
//! choice). `pixels` reads one slice on request, with `codestream` and `rle`. Only headers are kept in memory.
//! `shelter` catches the panic of a decoder on a damaged file.
//!
//! HU are equal to the result of pydicom's `apply_rescale`, rounded to f32. MONOCHROME1 says how to display values and
//! changes none of them. Padding outside the scanned field becomes air if it would be brighter than any tissue.
//! Otherwise it keeps its value, with a warning if that is brighter than air.

mod codestream;
mod element;
mod folder;
mod frame;
mod geometry;
mod group;
mod header;
mod images;
mod pixels;
mod rle;
mod series;
mod shelter;
mod traits;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use self::folder::{Broken, Found};
use self::frame::Frame;
use self::geometry::Stack;
use self::pixels::Fragments;
pub use self::series::Series;
use super::source::{SliceReader, StoredScan};
use crate::archive::is_folder;
use crate::error::{Error, Problem, Result};

/// Returns whether `path` is a folder, or a file that begins like DICOM, whatever its name: with a preamble, without
/// one, or without any meta information.
///
/// # Errors
/// If the file cannot be read.
pub fn is_dicom(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    Ok(is_folder(path) || header::is_dicom(path).map_err(|problem| Error::input(path.display(), problem))?)
}

/// Lists the CT series in a DICOM file or a folder of DICOM files, and the stacks of slices in each series. Looks at
/// every file below `path`, and reads no pixels.
///
/// # Errors
/// If `path` cannot be read, or holds no CT slice.
pub fn series(path: impl AsRef<Path>) -> Result<Vec<Series>> {
    let path = path.as_ref();
    let found = find(path).map_err(|problem| Error::input(path.display(), problem))?;
    Ok(series::table(&group::groups(found.frames)))
}

/// Opens the stack that `choice` names by its number, by the end of its series' UID, or as `largest`. Without a choice,
/// opens the only stack.
///
/// # Errors
/// If `path` cannot be read or holds no CT, if it holds several stacks and there is no choice, if `choice` does not
/// select one stack, if a file of the series is damaged, or if the slices do not form a stack.
pub fn open(path: &Path, choice: Option<&str>) -> Result<StoredScan> {
    let open = || -> Result<StoredScan, Problem> {
        let mut found = find(path)?;
        let mut groups = group::groups(std::mem::take(&mut found.frames));
        let table = series::table(&groups);
        let index = series::choose(&table, choice)?;
        let stack = Stack::of(groups.swap_remove(index))?;
        stored(stack, &table[index], found)
    };
    open().map_err(|problem| Error::input(path.display(), problem))
}

/// Finds the CT slices under `path`, of which there must be at least one.
fn find(path: &Path) -> Result<Found, Problem> {
    let found = Found::in_path(path)?;
    if !found.frames.is_empty() {
        return Ok(found);
    }
    let left_out = found.left_out();
    Err(match (found.broken.into_iter().next(), left_out) {
        (Some(broken), left_out) if is_folder(path) => {
            let others = left_out.map(|left_out| format!("; {left_out}")).unwrap_or_default();
            let text = format!("no CT slice can be read; {}{others}", named(&broken));
            broken.problem.reworded(text)
        }
        (Some(broken), _) => broken.problem,
        (None, Some(left_out)) => format!("holds no CT slice; {left_out}").into(),
        (None, None) => "the folder is empty".into(),
    })
}

fn named(broken: &Broken) -> String {
    let name = broken.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{name}: {}", broken.problem)
}

/// Returns the stack in the form that all readers share. `series` is its row in the table.
fn stored(stack: Stack, series: &Series, mut found: Found) -> Result<StoredScan, Problem> {
    let (missing, unusable) = found.missing(&stack, &series.uid);
    let others = missing.len().saturating_sub(1);
    if let Some(first) = missing.into_iter().next() {
        let is_known = if first.series.is_some() { "" } else { "; by its name it may be a slice of this scan" };
        let more = if others == 0 { String::new() } else { format!(", and {others} more like it") };
        let text = format!("{}{more}{is_known}; repair the file, or move it away to continue without it", named(&first));
        return Err(first.problem.reworded(text));
    }
    let Stack { frames, affine, mut warnings, .. } = stack;
    if let [first, others @ ..] = &unusable[..] {
        let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
        warnings.push(format!("left out, as it cannot be used: {}{more}", named(first)));
    }
    warnings.extend(found.left_out().map(|left_out| format!("left out: {left_out}")));
    warnings.extend(doubts(&frames));
    let first = &frames[0].image;
    let about = vec![
        ("format", "DICOM".to_string()),
        ("transfer_syntax", first.encoding.transfer_syntax.name().to_string()),
        ("series_uid", series.uid.clone()),
        ("series_description", series.description.clone()),
    ];
    let [height, width] = series.size;
    Ok(StoredScan {
        shape: [frames.len(), height, width],
        affine,
        about,
        nifti: None,
        grid: None,
        dicom: affine.and_then(|_| images::images(&frames)).map(Arc::new),
        warnings,
        slices: Box::new(Reader { frames, known: None }),
    })
}

/// Returns the reasons why the values of some slices may not be HU, each reason once.
fn doubts(frames: &[Frame]) -> Vec<String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for frame in frames {
        let padding = frame.rescale.padding_hu().filter(|&hu| hu > f64::from(frame::AIR)).map(|hu| {
            if frame.rescale.replaces_padding() {
                format!("pixels of PixelPaddingValue, which would be {hu} HU, are set to air ({} HU)", frame::AIR)
            } else {
                format!("pixels of PixelPaddingValue are kept at {hu} HU, as tissue may have that value too")
            }
        });
        frame.image.doubts.iter().cloned().chain(padding).for_each(|reason| *reasons.entry(reason).or_default() += 1);
    }
    reasons.into_iter().map(|(reason, count)| format!("{reason} (in {count} of {} slices)", frames.len())).collect()
}

/// Reads one slice at a time.
#[derive(Debug)]
struct Reader {
    frames: Vec<Frame>,
    /// The fragments of the file that was read last, and the index in `frames` of one of its frames. The next frame is
    /// often in the same file.
    known: Option<(usize, Fragments)>,
}

impl SliceReader for Reader {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let frame = &self.frames[index];
        let same = |&(last, _): &(usize, Fragments)| Arc::ptr_eq(&self.frames[last].image, &frame.image);
        let mut known = self.known.take().filter(same).map(|(_, fragments)| fragments);
        let stored = pixels::read(&frame.image, frame.index, &mut known);
        self.known = known.map(|fragments| (index, fragments));
        let stored = stored.map_err(|problem| problem.within(format_args!("slice {index} ({})", frame.image.name())))?;
        Ok(frame.rescale.hu(stored.into_iter()))
    }
}
