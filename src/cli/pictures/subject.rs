//! The scan and tokens that the flags choose for a picture.

use std::path::PathBuf;

use meddino::jobs::{Case, Input, Scene, Tokens, one_case};
use meddino::jobs::{Observer, Slices};
use meddino::output::{Preprocessing, Targets};
use meddino::picture::Gray;
use meddino::{Error, Result, Tensor};

use crate::cli::flags::Subject;

/// Opens the scan or the features that `subject` names, with `slices` or the middle slice. Loads no weights, so that
/// wrong input is refused early.
pub fn open(subject: &Subject, slices: Option<&Slices>, observer: &dyn Observer) -> Result<(Scene, Tokens)> {
    let series = subject.look.series.series.as_deref();
    match (&subject.features, &subject.input) {
        (Some(features), input) => {
            let case = input.as_deref().map(|input| one_case(input, series, observer)).transpose()?;
            Scene::of_features(features, case.as_ref(), slices, observer)
        }
        (None, Some(input)) => {
            let case = one_case(input, series, observer)?;
            Scene::of_scan(&case, subject.look.view.view(), slices, &subject.model.choice()?, observer)
        }
        (None, None) => Err(Error::option("INPUT", "name a scan, or a file of features with --features")),
    }
}

/// Returns targets that protect the files that the pictures are made from.
pub fn targets(scene: &Scene, tokens: &Tokens, overwrite: bool) -> Result<Targets> {
    tokens.targets(scene.scan.as_ref().and_then(Input::path), overwrite)
}

/// Returns the default output of a picture: `NAME.KIND.png` in the current folder.
pub fn default_output(scene: &Scene, kind: &str) -> PathBuf {
    let name = Case::new(&scene.name).name;
    // `meddino features` names its files NAME.features.ENDING.
    PathBuf::from(format!("{}.{kind}.png", name.strip_suffix(".features").unwrap_or(&name)))
}

/// Returns slice `index` as shades from 0 to 1, [H, W], or none without a scan. The range of an image that is not in HU
/// is from its least to its greatest value.
pub fn shades(scene: &mut Scene, index: usize, gray: Gray) -> Result<Option<Tensor>> {
    let Some(input) = &mut scene.scan else { return Ok(None) };
    let slice = input.slice(index)?;
    let gray = match input.preprocessing() {
        Preprocessing::Scan { .. } => gray,
        Preprocessing::Done { .. } => Gray::spanning(&slice),
    };
    Ok(Some(gray.shades(&slice)))
}
