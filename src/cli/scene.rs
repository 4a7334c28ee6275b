//! What pictures are made of: some slices of a scan, or none, and where the patches lie on them.

use std::path::{Path, PathBuf};

use meddino::ct::Window;
use meddino::maps::Mesh;
use meddino::output::{Preprocessing, StoredFeatures};
use meddino::picture::Gray;
use meddino::{Error, Result, Tensor};

use super::cases::{self, Case};
use super::input::{Input, View};
use super::picture_args::Subject;
use super::runner::open_model;
use super::say::{Say, warn};
use super::slices::Slices;
use super::tokens::Tokens;
use super::weights;

/// An open input, if there is one, and how its patches lie.
pub struct Scene {
    /// None: features alone, of a file.
    pub scan: Option<(Case, Input)>,
    /// What the user named: the scan, else the file of features.
    pub name: PathBuf,
    /// The patches over a slice; without a scan, over the image that the model saw of it.
    pub mesh: Mesh,
    /// Height and width of a pixel of a slice: in mm if that is known, else alike.
    pub pixel: (f64, f64),
    /// Which slices are looked at; all exist.
    pub slices: Vec<usize>,
    /// How many slices the scan has, as far as that is known.
    pub count: usize,
}

impl Scene {
    /// Opens what `subject` names, of which `slices` are looked at, or the middle one. No weights are loaded yet, so that what can be refused is refused
    /// before.
    pub fn open(subject: &Subject, slices: Option<&Slices>, say: Say) -> Result<(Self, Tokens)> {
        match (&subject.features, &subject.input) {
            (Some(features), input) => of_features(features, input.as_deref(), subject.look.series.as_deref(), slices),
            (None, Some(input)) => of_scan(input, subject, slices, say),
            (None, None) => Err(Error::option("INPUT", "name a scan, or a file of features with --features")),
        }
    }

    /// Where a picture of this kind goes if nothing else is said: `NAME.KIND.png`, in the current folder.
    pub fn default_output(&self, kind: &str) -> PathBuf {
        let name = Case::new(&self.name).name;
        // As `meddino features` names its files.
        PathBuf::from(format!("{}.{kind}.png", name.strip_suffix(".features").unwrap_or(&name)))
    }

    /// Slice `index` in shades from 0 to 1, [H, W]; an image that is not in HU from its least to its greatest value; nothing without a scan.
    pub fn shades(&mut self, index: usize, gray: Gray) -> Result<Option<Tensor>> {
        let Some((_, input)) = &mut self.scan else { return Ok(None) };
        let slice = input.slice(index)?;
        let gray = match input.preprocessing() {
            Preprocessing::Scan { .. } => gray,
            Preprocessing::Done { .. } => Gray::spanning(&slice),
        };
        Ok(Some(gray.shades(&slice)))
    }
}

fn of_scan(name: &Path, subject: &Subject, slices: Option<&Slices>, say: Say) -> Result<(Scene, Tokens)> {
    let case = cases::one(name, subject.look.series.as_deref())?;
    let input = Input::open(&case, (&subject.look).into())?;
    let (choice, tuning) = (subject.model.compute.choice()?, subject.model.compute.kernels.tuning());
    let [count, channels, height, width] = input.shape();
    let slices = slices.map_or_else(|| Ok(vec![count / 2]), |slices| slices.of(count))?;
    let checkpoint = weights::or_released(subject.model.checkpoint.as_deref(), say)?;
    let model = Box::new(open_model(&checkpoint, subject.model.rope.precision())?);
    let (_, grid) = model.config().check_image(&[1, channels, height, width])?;
    let [_, _, rows, cols] = input.slices();
    let mesh = Mesh::new(grid, model.config().patch_size, (height, width), (rows, cols));
    let (name, pixel) = (case.input.clone(), input.pixel());
    Ok((Scene { scan: Some((case, input)), name, mesh, pixel, slices, count }, Tokens::Waiting { checkpoint, model, choice, tuning }))
}

fn of_features(path: &Path, name: Option<&Path>, series: Option<&str>, slices: Option<&Slices>) -> Result<(Scene, Tokens)> {
    let features = StoredFeatures::open(path)?;
    let scan = name.map(|name| scan_of(&features, path, name, series)).transpose()?;
    let (image, stored) = (features.image(), features.slices());
    let (slice, pixel, count) = match &scan {
        Some((_, input)) => {
            let [count, _, rows, cols] = input.slices();
            ((rows, cols), input.pixel(), count)
        }
        None => (image, features.patch_mm().unwrap_or((1.0, 1.0)), stored.iter().max().map_or(0, |last| last + 1)),
    };
    let slices = slices.map_or_else(|| Ok(vec![stored[stored.len() / 2]]), |slices| slices.among(stored, count))?;
    let mesh = Mesh::new(features.grid(), features.patch_size(), image, slice);
    let name = name.unwrap_or(path).to_path_buf();
    Ok((Scene { scan, name, mesh, pixel, slices, count }, Tokens::Stored { features: Box::new(features), path: path.to_path_buf() }))
}

/// The scan `name`, looked at as the one that `features` were computed of; a warning if it is another.
fn scan_of(features: &StoredFeatures, path: &Path, name: &Path, series: Option<&str>) -> Result<(Case, Input)> {
    let case = cases::one(name, series)?;
    let view = View { size: features.size(), window: Window::DEMO, orient: features.orient().unwrap_or_default() };
    let input = Input::open(&case, view)?;
    let [count, _, height, width] = input.shape();
    let last = features.slices().iter().max().map_or(0, |&last| last);
    if (height, width) != features.image() || last >= count {
        let (rows, cols) = features.image();
        let problem = format!(
            "{count} slices that become images of {height} x {width}; the features in {} are of slices up to {last}, of {rows} x {cols}: they are of another scan",
            path.display()
        );
        return Err(Error::input(name.display(), problem));
    }
    if case.sha256()?.as_ref() != features.metadata().get("input_sha256") {
        warn(format_args!(
            "{}: not what the features in {} were computed of: maps may lie over the wrong scan",
            name.display(),
            path.display()
        ));
    }
    Ok((case, input))
}
