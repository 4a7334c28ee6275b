//! From what a guest names to a list of cases: one scan each, under a name of its own.

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

/// As a choice: each series is a case.
const ALL: &str = "all";

/// Which scans are looked at: files, folders that are searched, and what of the folders is taken.
#[derive(Clone, Debug)]
pub struct Cohort {
    /// Files, folders, or the word `phantom`.
    pub inputs: Vec<PathBuf>,
    /// If there are any: scans in folders that match none of these are left out.
    pub include: Vec<Pattern>,
    /// Scans in folders that match one of these are left out, and a folder with all that is in it.
    pub exclude: Vec<Pattern>,
    /// How the cases are called.
    pub names: Names,
    /// Which series of DICOM folders: as for [`ct::Volume::open_series`], or `all`, which makes a case of each.
    pub series: Option<String>,
    /// The name of the guest's parameter that says where outputs go, for errors.
    pub output: &'static str,
}

impl Cohort {
    /// Every scan in `inputs`, each called as [`Names::Auto`] has it.
    pub fn new(inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let inputs = inputs.into_iter().map(Into::into).collect();
        Self { inputs, include: Vec::new(), exclude: Vec::new(), names: Names::Auto, series: None, output: "output" }
    }

    /// Every case that the inputs name, sorted and named. A file is a case; a folder is searched, and the folders in it, but for `except`.
    /// `kept` is what outputs keep of a scan's name.
    ///
    /// # Errors
    /// If a folder cannot be read or holds no scan, or two cases would have one name.
    pub fn cases(&self, except: &Path, kept: fn(&str) -> &str, observer: &dyn Observer) -> Result<Vec<Case>> {
        let real = except.canonicalize().ok();
        let mut cases = Vec::new();
        for input in &self.inputs {
            if !input.is_dir() {
                cases.extend(self.split(Case { series: self.series.clone(), ..Case::new(input) }));
                continue;
            }
            if real.is_some() && input.canonicalize().ok() == real {
                let problem = format!("is the input folder {}, whose files it would add to; give another", input.display());
                return Err(Error::option(self.output, problem));
            }
            let found = self.search(input, Some(except))?;
            found.tell(input, observer);
            if found.scans.is_empty() {
                return Err(self.nothing(input, &found));
            }
            cases.extend(found.scans.iter().flat_map(|scan| self.split(self.case(input, scan))));
        }
        // Series stay in their own order.
        cases.sort_by(|a, b| a.input.cmp(&b.input));
        let mut seen = HashSet::new();
        cases.retain(|case| seen.insert((case.input.clone(), case.series.clone())));
        self.names.give(&mut cases, kept, self.output)?;
        Ok(cases)
    }

    /// The one case that the inputs name.
    ///
    /// # Errors
    /// If they name several.
    pub fn only(&self, observer: &dyn Observer) -> Result<Case> {
        let mut cases = self.all(observer)?;
        match &cases[..] {
            [_] => Ok(cases.remove(0)),
            several => {
                let problem = format!("the inputs are {} cases; say which folder their outputs go into", several.len());
                Err(Error::option(self.output, problem))
            }
        }
    }

    /// Every case that the inputs name. A single folder without volumes is one: its reader knows what to say of several series, and of none.
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
            found.tell(input, observer);
            return Ok(found.scans.iter().flat_map(|scan| self.split(self.case(input, scan))).collect());
        }
        self.cases(Path::new(""), |name| name, observer)
    }

    fn search(&self, folder: &Path, except: Option<&Path>) -> Result<Found> {
        search(folder, Wanted { include: &self.include, exclude: &self.exclude, except })
    }

    /// The case `scan`, which was found in `folder`.
    fn case(&self, folder: &Path, scan: &Path) -> Case {
        let below = scan.strip_prefix(folder).unwrap_or(scan).components().count();
        // Of a cohort, the choice is among the series of its DICOM folders: volumes have none.
        let series = self.series.clone().filter(|_| scan.is_dir());
        Case { series, folders: below.saturating_sub(1), ..Case::new(scan) }
    }

    /// A case of each series, where all are wanted and it is a folder of some; what cannot be read is left to whoever opens it.
    fn split(&self, case: Case) -> Vec<Case> {
        if self.series.as_deref() != Some(ALL) {
            return vec![case];
        }
        let listed = if case.input.is_dir() { ct::series(&case.input).unwrap_or_default() } else { Vec::new() };
        if listed.is_empty() {
            return vec![Case { series: None, ..case }];
        }
        let of = |series: ct::Series| {
            let tail = tail(&series.choice());
            Case { series: Some(series.choice()), name: format!("{}{tail}", case.name), tail, ..case.clone() }
        };
        listed.into_iter().map(of).collect()
    }

    fn nothing(&self, folder: &Path, found: &Found) -> Error {
        let chosen = if self.include.is_empty() && self.exclude.is_empty() { "" } else { " that `include` and `exclude` leave" };
        let known = ENDINGS.join(", ");
        let problem = format!("there is no scan in this folder{chosen}: expected DICOM files, or names ending in {known}{found}");
        Error::input(folder.display(), problem)
    }
}

/// The one case that `input` names, for jobs that look at one.
///
/// # Errors
/// If `input` is a folder of several.
pub fn one_case(input: &Path, series: Option<&str>, observer: &dyn Observer) -> Result<Case> {
    let mut cases = Cohort { series: series.map(Into::into), ..Cohort::new([input]) }.all(observer)?;
    match &cases[..] {
        [_] => Ok(cases.remove(0)),
        [first, ..] if first.tail.is_empty() => {
            let problem = format!("the folder holds {} scans; give one of them, as {}", cases.len(), first.input.display());
            Err(Error::input(input.display(), problem))
        }
        several => Err(Error::option("series", format!("all are {}; choose one of them", several.len()))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_of_one_case_is_one() {
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
        assert!(text(cohort.only(&()).expect_err("several")).contains("output: the inputs are 4 cases"));
        assert!(text(cohort.cases(folder.path(), |name| name, &()).expect_err("refused")).contains("output: is the input folder"));
        let error = text(Cohort::new([at("empty")]).cases(&at("out"), |name| name, &()).expect_err("refused"));
        assert!(error.contains("no scan in this folder: expected"), "{error}");
    }
}
