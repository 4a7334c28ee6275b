//! From what the user names to a list of cases: one scan each, under a name of its own.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use meddino::archive::identity;
use meddino::ct;
use meddino::{Error, Result};

use super::args::Cohort;
use super::guard::read_of;
use super::names;
use super::search::{Choice, ENDINGS, Found, search};
use super::text::text;

/// As a choice: each series is a case.
const ALL: &str = "all";

/// One scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// What to open: a file, a folder, or the word `phantom`.
    pub input: PathBuf,
    /// Which series of a DICOM folder.
    pub series: Option<String>,
    /// What its outputs are called, without an ending.
    pub name: String,
    /// What its name ends in, that tells it from other series of the folder.
    pub tail: String,
    /// How many folders stand between it and the one that the user named.
    pub folders: usize,
    /// What it is known by, once that was asked for: the manifest and the outputs say the same, and all is read once.
    known_by: OnceCell<String>,
}

impl Case {
    /// What the user named itself, called by its own name.
    pub fn new(input: impl Into<PathBuf>) -> Self {
        let input = input.into();
        Self { name: names::name(&input, 0), input, ..Self::default() }
    }

    /// Whether it is the built-in slice.
    pub fn is_phantom(&self) -> bool {
        self.input.as_os_str() == "phantom"
    }

    /// The input as a text, for metadata.
    pub fn text(&self) -> String {
        text(&self.input)
    }

    /// What its content is known by ([`identity`]): every file that it is read from counts. None for what is built in.
    pub fn sha256(&self) -> Result<Option<String>> {
        if self.is_phantom() {
            return Ok(None);
        }
        if let Some(known) = self.known_by.get() {
            return Ok(Some(known.clone()));
        }
        let found = identity(&self.input, &read_of(&self.input)?).map_err(|e| Error::input(self.input.display(), e))?;
        Ok(Some(self.known_by.get_or_init(|| found).clone()))
    }
}

/// What the name of a case ends in that is one series of several.
pub fn tail(series: &str) -> String {
    format!("_series{series}")
}

/// What a command is asked to look at.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub inputs: &'a [PathBuf],
    pub cohort: &'a Cohort,
    pub series: Option<&'a str>,
    /// The flag that says where the outputs of several cases go.
    pub flag: &'static str,
}

impl Wanted<'_> {
    /// Every case that the inputs name, sorted and named. A file is a case; a folder is searched, and the folders in it, but for `except`.
    ///
    /// # Errors
    /// If a folder cannot be read or holds no scan, or two cases would have one name, of which `own` says what is kept.
    pub fn cases(&self, except: &Path, own: fn(&str) -> &str) -> Result<Vec<Case>> {
        let real = except.canonicalize().ok();
        let mut cases = Vec::new();
        for input in self.inputs {
            if !input.is_dir() {
                cases.extend(self.split(Case { series: self.series.map(Into::into), ..Case::new(input) }));
                continue;
            }
            if real.is_some() && input.canonicalize().ok() == real {
                let problem = format!("is the input folder {}, whose files it would add to; give another", input.display());
                return Err(Error::option(self.flag, problem));
            }
            let found = self.search(input, Some(except))?;
            found.say(input);
            if found.scans.is_empty() {
                return Err(self.nothing(input, &found));
            }
            cases.extend(found.scans.iter().flat_map(|scan| self.split(self.case(input, scan))));
        }
        // Series stay in their own order.
        cases.sort_by(|a, b| a.input.cmp(&b.input));
        let mut seen = HashSet::new();
        cases.retain(|case| seen.insert((case.input.clone(), case.series.clone())));
        self.cohort.names.give(&mut cases, own, self.flag)?;
        Ok(cases)
    }

    /// The one case that the inputs name.
    ///
    /// # Errors
    /// If they name several.
    pub fn only(&self) -> Result<Case> {
        let mut cases = self.all()?;
        match &cases[..] {
            [_] => Ok(cases.remove(0)),
            several => {
                let problem = format!("the inputs are {} cases; say which folder their outputs go into", several.len());
                Err(Error::option(self.flag, problem))
            }
        }
    }

    /// Every case that the inputs name. A single folder without volumes is one: its reader knows what to say of several series, and of none.
    ///
    /// # Errors
    /// As [`Wanted::cases`].
    pub fn all(&self) -> Result<Vec<Case>> {
        if let [input] = self.inputs
            && input.is_dir()
        {
            let found = self.search(input, None)?;
            if found.scans.iter().all(|scan| scan.is_dir()) {
                return Ok(self.split(Case { series: self.series.map(Into::into), ..Case::new(input) }));
            }
            found.say(input);
            return Ok(found.scans.iter().flat_map(|scan| self.split(self.case(input, scan))).collect());
        }
        self.cases(Path::new(""), |name| name)
    }

    fn search(&self, folder: &Path, except: Option<&Path>) -> Result<Found> {
        search(folder, Choice { include: &self.cohort.include, exclude: &self.cohort.exclude, except })
    }

    /// The case `scan`, which was found in `folder`.
    fn case(&self, folder: &Path, scan: &Path) -> Case {
        let below = scan.strip_prefix(folder).unwrap_or(scan).components().count();
        // Of a cohort, the choice is among the series of its DICOM folders: volumes have none.
        let series = self.series.filter(|_| scan.is_dir()).map(Into::into);
        Case { series, folders: below.saturating_sub(1), ..Case::new(scan) }
    }

    /// A case of each series, where all are wanted and it is a folder of some; what cannot be read is left to whoever opens it.
    fn split(&self, case: Case) -> Vec<Case> {
        if self.series != Some(ALL) {
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
        let Cohort { include, exclude, .. } = self.cohort;
        let chosen = if include.is_empty() && exclude.is_empty() { "" } else { " that --include and --exclude leave" };
        let known = ENDINGS.join(", ");
        let problem = format!("there is no scan in this folder{chosen}: expected DICOM files, or names ending in {known}{found}");
        Error::input(folder.display(), problem)
    }
}

/// The one case that `input` names, for commands that look at one.
///
/// # Errors
/// If it is a folder of several.
pub fn one(input: &Path, series: Option<&str>) -> Result<Case> {
    let (inputs, cohort) = ([input.to_path_buf()], Cohort::default());
    let mut cases = Wanted { inputs: &inputs, cohort: &cohort, series, flag: "INPUT" }.all()?;
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
    fn a_case_is_known_by_all_that_it_is_read_from() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("series")).expect("made");
        for name in ["x.hdr", "x.img", "series/0", "series/.1"] {
            fs::write(at(name), "1").expect("written");
        }
        let of = |name: &str| Case::new(at(name)).sha256().expect("read");
        for (case, part) in [("x.hdr", "x.img"), ("x.hdr", "x.hdr"), ("series", "series/.1")] {
            let before = of(case);
            fs::write(at(part), "2").expect("written");
            assert_ne!(of(case), before, "{part}");
        }
        let before = of("series");
        fs::write(at("series/manifest.jsonl"), "{}").expect("written");
        fs::write(at("series/.out.partial"), "half").expect("written");
        assert_eq!(of("series"), before, "what is written into it does not count");
        fs::rename(at("series/.1"), at("series/.2")).expect("renamed");
        assert_ne!(of("series"), before, "a name counts");
        assert_eq!(Case::new("phantom").sha256().expect("built in"), None);
    }

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
        let input = |name: &str| one(&at(name), None).map(|case| case.input);
        assert_eq!(input("series").expect("one case"), at("series"));
        assert_eq!(input("volume").expect("one case"), at("volume/x.npy"));
        assert_eq!(input("empty").expect("left to the reader"), at("empty"));
        assert!(input("two").expect_err("several").to_string().contains("the folder holds 2 scans"));

        let (inputs, cohort) = ([folder.path().to_path_buf()], Cohort::default());
        let wanted = Wanted { inputs: &inputs, cohort: &cohort, series: None, flag: "--output" };
        let said = |error: Error| error.to_string();
        assert!(said(wanted.only().expect_err("several")).contains("--output: the inputs are 4 cases"));
        assert!(said(wanted.cases(folder.path(), |name| name).expect_err("refused")).contains("--output: is the input folder"));
        let empty = [at("empty")];
        let error = said(Wanted { inputs: &empty, ..wanted }.cases(&at("out"), |name| name).expect_err("refused"));
        assert!(error.contains("no scan in this folder: expected"), "{error}");
    }
}
