//! Features for `meddino probe`: files, or scans whose features are computed first.

use std::path::{Path, PathBuf};

use meddino::archive::Listing;
use meddino::jobs::{
    Case, Cohort, FeatureJob, Input, OutputFolder, Outputs, Recipe, Settings, Shard, View, feature_files, read_of, targets,
};
use meddino::output::{Format, Output};
use meddino::{Error, Result};
use tempfile::TempDir;

use super::flags::Scans;
use super::terminal::Terminal;
use super::terminal::say::Failure;

/// Feature files, and the folder that holds them if it ends with the command.
pub struct Ready {
    /// The files.
    pub files: Vec<PathBuf>,
    _folder: Option<TempDir>,
}

/// What is computed of scans.
pub struct Wanted<'a> {
    /// How slices become images.
    pub view: View,
    /// The tensors of a feature file.
    pub outputs: Vec<Output>,
    /// Checks the cases before anything is computed.
    pub check: &'a dyn Fn(&[Case]) -> Result<()>,
    /// Returns whether a case is needed.
    pub needs: &'a dyn Fn(&Case) -> bool,
}

/// Returns the feature files of `inputs`. If these are scans, computes what is `wanted` of them.
pub fn ready(inputs: &[PathBuf], scans: &Scans, wanted: Result<Wanted<'_>>, terminal: &Terminal) -> Result<Ready, Failure> {
    if inputs.iter().any(|input| holds_features(input)) {
        if scans.keep.is_some() {
            let problem = "the inputs are feature files, so that none are computed; leave it out, or give scans";
            return Err(Error::option("--keep", problem).into());
        }
        return Ok(Ready { files: feature_files(inputs)?, _folder: None });
    }
    let Wanted { view, outputs, check, needs } = wanted?;
    let fail = |e: std::io::Error| Error::output(std::env::temp_dir().display(), format!("the folder cannot be created: {e}"));
    let temporary = if scans.keep.is_some() { None } else { Some(tempfile::tempdir().map_err(fail)?) };
    let folder = scans.keep.as_deref().or(temporary.as_ref().map(TempDir::path)).unwrap_or(Path::new("."));
    let cohort = Cohort { series: scans.series.series.clone(), output: "--keep", ..Cohort::new(inputs) };
    let recipe = Recipe { outputs, max_memory: scans.memory.max_memory, ..Recipe::new(scans.model.choice()?, view.clone()) };
    let format = Format::Safetensors;
    let files = |target: &Path| format.files(target);
    let names = Outputs { folder, ending: format.ending(), files: &files, kept: |name| name };
    let cases = OutputFolder::open(&cohort, names, Shard::ALL, targets(false, None, recipe.model.checkpoint.as_deref())?, terminal)?;
    check(cases.cases())?;
    let cases = cases.only(needs);
    let files = cases.targets();
    let sha256 = recipe.settings_sha256();
    let job = FeatureJob::open(recipe, None, terminal)?;
    let settings = Settings { sha256, checkpoint: job.engine().checkpoint_id() };
    let work = |case: &Case, target: &Path| job.write(&mut Input::open(case, view.clone(), terminal)?, target, terminal).map(drop);
    Failure::of_cases(&cases.run(&settings, terminal, work, |_, _, _| Ok(()))?)?;
    Ok(Ready { files, _folder: temporary })
}

/// Returns the files that are read of `inputs`.
///
/// # Errors
/// If a folder cannot be read.
pub fn read(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if inputs.iter().any(|input| holds_features(input)) {
        return feature_files(inputs);
    }
    Ok(inputs.iter().map(|input| read_of(input)).collect::<Result<Vec<_>>>()?.concat())
}

/// Returns whether `input` is a .safetensors file, or a folder that holds one.
fn holds_features(input: &Path) -> bool {
    let is_features = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    if !input.is_dir() {
        return is_features(input);
    }
    Listing::of(input).is_ok_and(|listing| listing.files.iter().any(|file| is_features(file)))
}
