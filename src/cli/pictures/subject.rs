//! What pictures are made of, as the flags say.

use std::path::PathBuf;

use meddino::jobs::{Case, Input, Scene, Tokens, one_case};
use meddino::jobs::{Observer, Slices};
use meddino::output::{Preprocessing, Targets};
use meddino::picture::Gray;
use meddino::{Error, Result, Tensor};

use crate::cli::flags::Subject;

/// Opens what `subject` names, of which `slices` are looked at, or the middle one. No weights are loaded yet, so that what can be refused is refused
/// before.
pub fn open(subject: &Subject, slices: Option<&Slices>, observer: &dyn Observer) -> Result<(Scene, Tokens)> {
    let series = subject.look.series.as_deref();
    match (&subject.features, &subject.input) {
        (Some(features), input) => {
            let case = input.as_deref().map(|input| one_case(input, series, observer)).transpose()?;
            Scene::of_features(features, case.as_ref(), slices, observer)
        }
        (None, Some(input)) => {
            let case = one_case(input, series, observer)?;
            Scene::of_scan(&case, subject.look.view(), slices, &subject.model.choice()?, observer)
        }
        (None, None) => Err(Error::option("INPUT", "name a scan, or a file of features with --features")),
    }
}

/// Targets that refuse what is read for the pictures.
pub fn targets(scene: &Scene, tokens: &Tokens, overwrite: bool) -> Result<Targets> {
    tokens.targets(scene.scan.as_ref().and_then(Input::path), overwrite)
}

/// Where a picture of this kind goes if nothing else is said: `NAME.KIND.png`, in the current folder.
pub fn default_output(scene: &Scene, kind: &str) -> PathBuf {
    let name = Case::new(&scene.name).name;
    // As `meddino features` names its files.
    PathBuf::from(format!("{}.{kind}.png", name.strip_suffix(".features").unwrap_or(&name)))
}

/// Slice `index` in shades from 0 to 1, [H, W]; an image that is not in HU from its least to its greatest value; nothing without a scan.
pub fn shades(scene: &mut Scene, index: usize, gray: Gray) -> Result<Option<Tensor>> {
    let Some(input) = &mut scene.scan else { return Ok(None) };
    let slice = input.slice(index)?;
    let gray = match input.preprocessing() {
        Preprocessing::Scan { .. } => gray,
        Preprocessing::Done { .. } => Gray::spanning(&slice),
    };
    Ok(Some(gray.shades(&slice)))
}
