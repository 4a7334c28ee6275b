//! Finds the cases of a cohort: one scan each, with a unique name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::names::Names;
use super::pattern::Pattern;
use super::search::{Found, Wanted, search};
use crate::ct;
use crate::error::{Error, Result};
use crate::jobs::case::Case;
use crate::jobs::name::{ENDINGS, tail};
use crate::jobs::observer::Observer;

/// The choice of series that makes a case of each.
const ALL: &str = "all";

/// A choice of scans: files, folders to search, and patterns for the scans in folders.
#[derive(Clone, Debug)]
pub struct Cohort {
    /// Files, folders, or the word `phantom`.
    pub inputs: Vec<PathBuf>,
    /// If not empty, scans in folders are skipped unless they match one of these patterns.
    pub include: Vec<Pattern>,
    /// Scans in folders, and whole folders, are skipped if they match one of these patterns.
    pub exclude: Vec<Pattern>,
    /// How the cases are named.
    pub names: Names,
    /// The series of DICOM folders, as for [`ct::Volume::open_series`], or `all`, which makes a case of each series.
    pub series: Option<String>,
    /// The caller's parameter for the output folder, which errors name.
    pub output: &'static str,
}

impl Cohort {
    /// Creates a cohort of every scan in `inputs`, named by [`Names::Auto`].
    pub fn new(inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let inputs = inputs.into_iter().map(Into::into).collect();
        Self { inputs, include: Vec::new(), exclude: Vec::new(), names: Names::Auto, series: None, output: "output" }
    }

    /// Returns the cases of all inputs, sorted and named. A file is a case. A folder is searched recursively, except
    /// for the folder `except`. `kept` returns the part of a scan's name that outputs keep.
    ///
    /// # Errors
    /// If a folder cannot be read or holds no scan, or two cases have the same name.
    pub fn cases(&self, except: &Path, kept: fn(&str) -> &str, observer: &dyn Observer) -> Result<Vec<Case>> {
        let real = except.canonicalize().ok();
        let mut cases = Vec::new();
        for input in &self.inputs {
            if !input.is_dir() {
                cases.extend(self.split(Case { series: self.series.clone(), ..Case::new(input) }));
                continue;
            }
            if real.is_some() && input.canonicalize().ok() == real {
                let problem = format!("is the same folder as the input {}; give another output folder", input.display());
                return Err(Error::option(self.output, problem));
            }
            let found = self.search(input, Some(except))?;
            found.report(input, observer);
            if found.scans.is_empty() {
                return Err(self.no_scan(input, &found));
            }
            cases.extend(found.scans.iter().flat_map(|scan| self.split(self.case(input, scan))));
        }
        // The sort is stable, so the series of a folder keep their order.
        cases.sort_by(|a, b| a.input.cmp(&b.input));
        let mut seen = HashSet::new();
        cases.retain(|case| seen.insert((case.input.clone(), case.series.clone())));
        self.names.give(&mut cases, kept, self.output)?;
        Ok(cases)
    }

    /// Returns the only case of the inputs.
    ///
    /// # Errors
    /// If the inputs hold several cases.
    pub fn only(&self, observer: &dyn Observer) -> Result<Case> {
        let mut cases = self.all(observer)?;
        match &cases[..] {
            [_] => Ok(cases.remove(0)),
            several => {
                let problem = format!("the inputs hold {} cases; give an output folder", several.len());
                Err(Error::option(self.output, problem))
            }
        }
    }

    /// Returns all cases of the inputs. A single folder without volumes is one case, because its reader gives the best
    /// error if it holds several series or none.
    ///
    /// # Errors
    /// As [`Cohort::cases`].
    pub fn all(&self, observer: &dyn Observer) -> Result<Vec<Case>> {
        if let [input] = &self.inputs[..]
            && input.is_dir()
        {
            let found = self.search(input, None)?;
            if found.scans.iter().all(|scan| scan.is_dir()) {
                return Ok(self.split(Case { series: self.series.clone(), ..Case::new(input) }));
            }
            found.report(input, observer);
            return Ok(found.scans.iter().flat_map(|scan| self.split(self.case(input, scan))).collect());
        }
        self.cases(Path::new(""), |name| name, observer)
    }

    fn search(&self, folder: &Path, except: Option<&Path>) -> Result<Found> {
        search(folder, Wanted { include: &self.include, exclude: &self.exclude, except })
    }

    /// Creates the case of `scan`, which was found in `folder`.
    fn case(&self, folder: &Path, scan: &Path) -> Case {
        let depth = scan.strip_prefix(folder).unwrap_or(scan).components().count();
        // The choice of series concerns only DICOM folders, because volumes have no series.
        let series = self.series.clone().filter(|_| scan.is_dir());
        Case { series, folders: depth.saturating_sub(1), ..Case::new(scan) }
    }

    /// Splits a case into one case per series, if all series are wanted and the input is a DICOM folder. A folder that
    /// cannot be read stays one case, so that opening it reports the error.
    fn split(&self, case: Case) -> Vec<Case> {
        if self.series.as_deref() != Some(ALL) {
            return vec![case];
        }
        let listed = if case.input.is_dir() { ct::series(&case.input).unwrap_or_default() } else { Vec::new() };
        if listed.is_empty() {
            return vec![Case { series: None, ..case }];
        }
        let case_of = |series: ct::Series| {
            let tail = tail(&series.choice());
            Case { series: Some(series.choice()), name: format!("{}{tail}", case.name), tail, ..case.clone() }
        };
        listed.into_iter().map(case_of).collect()
    }

    fn no_scan(&self, folder: &Path, found: &Found) -> Error {
        let chosen = if self.include.is_empty() && self.exclude.is_empty() { "" } else { " that passes `include` and `exclude`" };
        let endings = ENDINGS.join(", ");
        let problem = format!("there is no scan in this folder{chosen}: expected DICOM files, or names ending in {endings}{found}");
        Error::input(folder.display(), problem)
    }
}

/// Returns the only case of `input`, for jobs on a single scan.
///
/// # Errors
/// If `input` is a folder of several scans or series.
pub fn one_case(input: &Path, series: Option<&str>, observer: &dyn Observer) -> Result<Case> {
    let mut cases = Cohort { series: series.map(Into::into), ..Cohort::new([input]) }.all(observer)?;
    match &cases[..] {
        [_] => Ok(cases.remove(0)),
        [first, ..] if first.tail.is_empty() => {
            let problem = format!("the folder holds {} scans; give one of them, for example {}", cases.len(), first.input.display());
            Err(Error::input(input.display(), problem))
        }
        several => {
            Err(Error::option("series", format!("all selects {} series, but this job takes one; choose one of them", several.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_of_one_scan_is_one_case() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["series/0", "volume/x.npy", "empty", "two/a.npy", "two/b.npy"] {
            let is_folder = name == "empty";
            fs::create_dir_all(if is_folder { at(name) } else { at(name).parent().expect("a folder").into() }).expect("made");
            if !is_folder {
                fs::write(at(name), b"\x08\0\x05\0CS\x0a\0ISO_IR 100").expect("written");
            }
        }
        let input = |name: &str| one_case(&at(name), None, &()).map(|case| case.input);
        assert_eq!(input("series").expect("one case"), at("series"));
        assert_eq!(input("volume").expect("one case"), at("volume/x.npy"));
        assert_eq!(input("empty").expect("left to the reader"), at("empty"));
        assert!(input("two").expect_err("several").to_string().contains("the folder holds 2 scans"));

        let cohort = Cohort::new([folder.path()]);
        let text = |error: Error| error.to_string();
        assert!(text(cohort.only(&()).expect_err("several")).contains("output: the inputs hold 4 cases"));
        assert!(
            text(cohort.cases(folder.path(), |name| name, &()).expect_err("refused")).contains("output: is the same folder as the input")
        );
        let error = text(Cohort::new([at("empty")]).cases(&at("out"), |name| name, &()).expect_err("refused"));
        assert!(error.contains("no scan in this folder: expected"), "{error}");
    }
}
