//! The slices of a scan that maps and pictures show, and the mesh of patches over a slice.

use std::path::{Path, PathBuf};

use super::case::Case;
use super::engine::ModelChoice;
use super::input::{Input, View};
use super::observer::{Observer, warn};
use super::slices::Slices;
use super::tokens::Tokens;
use crate::ct::Window;
use crate::error::{Error, Result};
use crate::maps::Mesh;
use crate::output::StoredFeatures;

/// An open scan, if any, its chosen slices, and the mesh of patches.
#[derive(Debug)]
pub struct Scene {
    /// The scan; none if there is only a file of features.
    pub scan: Option<Input>,
    /// The path of the scan, else of the file of features.
    pub name: PathBuf,
    /// The mesh of patches over a slice; without a scan, over the image that the model saw.
    pub mesh: Mesh,
    /// Height and width of a slice's pixel, in mm if the affine is known, else (1, 1).
    pub pixel: (f64, f64),
    /// The chosen slices. All of them exist.
    pub slices: Vec<usize>,
    /// Number of slices of the scan; without a scan, the last stored slice's number plus one.
    pub count: usize,
}

impl Scene {
    /// Opens the scan of `case` with `slices`, or its middle slice. Loads no weights, so that wrong input is refused
    /// early.
    ///
    /// # Errors
    /// If the scan or the model cannot be opened, or they do not fit each other.
    pub fn of_scan(
        case: &Case,
        view: View,
        slices: Option<&Slices>,
        model: &ModelChoice,
        observer: &dyn Observer,
    ) -> Result<(Self, Tokens)> {
        let input = Input::open(case, view, observer)?;
        let [count, channels, height, width] = input.shape();
        let slices = slices.map_or_else(|| Ok(vec![count / 2]), |slices| slices.of(count))?;
        let model = model.open(observer)?;
        let config = model.model().config();
        let (_, grid) = config.check_image(&[1, channels, height, width])?;
        let [_, _, rows, cols] = input.slices();
        let mesh = Mesh::new(grid, config.patch_size, (height, width), (rows, cols));
        let (name, pixel) = (case.input.clone(), input.pixel());
        Ok((Self { scan: Some(input), name, mesh, pixel, slices, count }, Tokens::Waiting(Box::new(model))))
    }

    /// Opens the file of features `path` with `slices`, or the middle slice in the file. Also opens the scan of `case`,
    /// if given, for display.
    ///
    /// # Errors
    /// If a file cannot be opened, or the features are of another scan.
    pub fn of_features(path: &Path, case: Option<&Case>, slices: Option<&Slices>, observer: &dyn Observer) -> Result<(Self, Tokens)> {
        let features = StoredFeatures::open(path)?;
        let scan = case.map(|case| scan_of(&features, path, case, observer)).transpose()?;
        let (image, stored) = (features.image(), features.slices());
        let (slice, pixel, count) = match &scan {
            Some(input) => {
                let [count, _, rows, cols] = input.slices();
                ((rows, cols), input.pixel(), count)
            }
            None => (image, features.patch_mm().unwrap_or((1.0, 1.0)), stored.iter().max().map_or(0, |last| last + 1)),
        };
        let slices = slices.map_or_else(|| Ok(vec![stored[stored.len() / 2]]), |slices| slices.among(stored, count))?;
        let mesh = Mesh::new(features.grid(), features.patch_size(), image, slice);
        let name = case.map_or(path, |case| &case.input).to_path_buf();
        Ok((Self { scan, name, mesh, pixel, slices, count }, Tokens::Stored { features: Box::new(features), path: path.to_path_buf() }))
    }
}

/// Opens the scan of `case` with the preprocessing of `features`. Warns if the content is not what `features` were
/// computed from.
fn scan_of(features: &StoredFeatures, path: &Path, case: &Case, observer: &dyn Observer) -> Result<Input> {
    let view = View { size: features.size(), window: Window::DEMO, orient: features.orient().unwrap_or_default() };
    let mut input = Input::open(case, view, observer)?;
    let name = case.input.display();
    let [count, _, height, width] = input.shape();
    let last = features.slices().iter().max().map_or(0, |&last| last);
    if (height, width) != features.image() || last >= count {
        let (rows, cols) = features.image();
        let problem = format!(
            "the scan has {count} slices and images of {height} x {width}, but the features in {} are of slices up to {last} and images of {rows} x {cols}; give the scan that they were computed from",
            path.display()
        );
        return Err(Error::input(name, problem));
    }
    if input.sha256()?.as_ref() != features.metadata().get("input_sha256") {
        warn(
            observer,
            &format!("{name}: the features in {} were computed from other content; maps may be drawn over the wrong scan", path.display()),
        );
    }
    Ok(input)
}
