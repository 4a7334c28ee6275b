//! From what the user names to a list of cases: one scan each, under a name of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use meddino::archive::{sha256, sha256_of_file};
use meddino::ct;
use meddino::{Error, Result};

/// Endings of files that are a case each. The longer of two comes first.
const ENDINGS: &[&str] = &[".nii.gz", ".nii", ".hdr", ".npy", ".safetensors"];

/// One scan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What to open.
    pub input: String,
}

impl Case {
    /// What its outputs are called, without an ending: `case_0000` for `scans/case_0000.nii.gz`.
    pub fn name(&self) -> String {
        let path = Path::new(&self.input);
        // Of `.` or `scans/..` the folder's real name.
        let real = || path.canonicalize().ok().and_then(|real| real.file_name().map(|n| n.to_string_lossy().to_string()));
        let name = path.file_name().map(|n| n.to_string_lossy().to_string()).or_else(real).unwrap_or_else(|| "scan".into());
        let lower = name.to_lowercase();
        let known = ENDINGS.iter().chain(&[".dcm"]).find(|ending| lower.ends_with(*ending) && lower.len() > ending.len());
        match known {
            _ if path.is_dir() => name,
            Some(ending) => name[..name.len() - ending.len()].to_string(),
            None => Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().to_string(),
        }
    }

    /// The one case that `input` names, for commands that look at one.
    pub fn one(input: &str) -> Result<Self> {
        match &all(&[input.to_string()])?[..] {
            [case] => Ok(case.clone()),
            several => {
                Err(Error::input(input, format!("the folder holds {} scans; give one of them, as {}", several.len(), several[0].input)))
            }
        }
    }

    /// What its content is known by: the SHA-256 of a file, or of a folder's file names and hashes; none for what is built in.
    pub fn sha256(&self) -> Result<Option<String>> {
        let path = Path::new(&self.input);
        let hash = match () {
            () if self.input == "phantom" => return Ok(None),
            () if path.is_dir() => sha256_of_folder(path),
            () => sha256_of_file(path),
        };
        hash.map(Some).map_err(|e| Error::input(&self.input, e))
    }
}

fn sha256_of_folder(folder: &Path) -> io::Result<String> {
    let mut all = String::new();
    for path in entries(folder)? {
        let hash = match () {
            () if is_real_folder(&path) => sha256_of_folder(&path)?,
            () if path.is_file() => sha256_of_file(&path)?,
            () => continue,
        };
        all += &format!("{hash} {}\n", path.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(sha256(all.as_bytes()))
}

/// A link to a folder is not followed: it might lead back here.
fn is_real_folder(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

/// Every case that `inputs` name, sorted. A file is a case; a folder is searched, and the folders in it, but for `except`: each volume in it is a case, and each
/// folder that holds DICOM files, with all that is below it.
pub fn find(inputs: &[String], except: Option<&Path>) -> Result<Vec<Case>> {
    let except = except.and_then(|path| path.canonicalize().ok());
    let mut found = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if !path.is_dir() {
            found.push(Case { input: input.clone() });
            continue;
        }
        if except.as_ref().is_some_and(|except| path.canonicalize().is_ok_and(|path| path == *except)) {
            return Err(Error::option("--out-dir", format!("is the input folder {input}, whose files it would add to; give another")));
        }
        let before = found.len();
        search(path, except.as_deref(), &mut found).map_err(|e| Error::input(input, e))?;
        if found.len() == before {
            let known = ENDINGS.join(", ");
            return Err(Error::input(input, format!("there is no scan in this folder: expected DICOM files, or names ending in {known}")));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn search(folder: &Path, except: Option<&Path>, found: &mut Vec<Case>) -> Result<(), String> {
    let entries = entries(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let (mut is_dicom, mut folders) = (false, Vec::new());
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_dir() {
            folders.push(path);
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            found.push(Case { input: path.display().to_string() });
        } else {
            // A DICOMDIR is a table of contents in DICOM's format.
            is_dicom |= name != "dicomdir" && ct::is_dicom(&path).unwrap_or(false);
        }
    }
    if is_dicom {
        found.push(Case { input: folder.display().to_string() });
        return Ok(());
    }
    let is_except = |folder: &Path| except.is_some() && folder.canonicalize().ok().as_deref() == except;
    folders.iter().filter(|folder| is_real_folder(folder) && !is_except(folder)).try_for_each(|folder| search(folder, except, found))
}

/// The one case that `inputs` name, which features of a single input are computed of.
pub fn only(inputs: &[String]) -> Result<Case> {
    match &all(inputs)?[..] {
        [case] => Ok(case.clone()),
        several => {
            Err(Error::option("--out-dir", format!("the inputs are {} cases; say which folder their features go into", several.len())))
        }
    }
}

/// Every case that `inputs` name. A single folder without volumes is one: its reader knows what to say of several series, and of none.
pub fn all(inputs: &[String]) -> Result<Vec<Case>> {
    if let [input] = inputs
        && Path::new(input).is_dir()
    {
        let mut found = Vec::new();
        search(Path::new(input), None, &mut found).map_err(|e| Error::input(input, e))?;
        if found.iter().all(|case| Path::new(&case.input).is_dir()) {
            return Ok(vec![Case { input: input.clone() }]);
        }
    }
    find(inputs, None)
}

/// What a folder holds, sorted, without hidden names.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths.sort();
    Ok(paths)
}

/// Whether every case has a name of its own.
pub fn check_names(cases: &[Case], name: fn(&Case) -> String) -> Result<()> {
    let mut seen: BTreeMap<String, &Case> = BTreeMap::new();
    for case in cases {
        // Some file systems take upper and lower case for the same.
        if let Some(other) = seen.insert(name(case).to_lowercase(), case) {
            let name = name(case);
            return Err(Error::option(
                "--out-dir",
                format!("{} and {} would both be written as {name}; run them apart", other.input, case.input),
            ));
        }
    }
    Ok(())
}

/// Part `index` (from 1) of `of`: every `of`th case of the sorted list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub of: usize,
}

impl Shard {
    /// The whole.
    pub const ALL: Self = Self { index: 1, of: 1 };

    pub fn take(self, cases: Vec<Case>) -> Vec<Case> {
        cases.into_iter().skip(self.index - 1).step_by(self.of).collect()
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// `I/N` with I from 1 to N.
    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(Error::option("shard", format!("'{text}' is not I/N with I from 1 to N"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(input: &str) -> Case {
        Case { input: input.into() }
    }

    #[test]
    fn names_are_those_of_nnunet() {
        for (input, name) in [
            ("a/case_0000.nii.gz", "case_0000"),
            ("case_0000.NII", "case_0000"),
            ("b.c.npy", "b.c"),
            ("x.dcm", "x"),
            ("phantom", "phantom"),
            (".npy", ".npy"),
            ("IM0001", "IM0001"),
        ] {
            assert_eq!(case(input).name(), name, "{input}");
        }
    }

    #[test]
    fn folders_are_searched_and_dicom_is_known_by_its_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let dicom = [&[0; 128][..], b"DICM"].concat();
        for (name, bytes) in [
            ("b.nii.gz", &b""[..]),
            ("a.npy", b""),
            ("notes.txt", b"notes"),
            (".hidden.npy", b""),
            ("DICOMDIR", &dicom),
            ("deep/er/c.nii", b""),
            ("series/0", &dicom),
            ("series/1", &dicom),
            ("bare/0", b"\x08\0\x05\0CS\x0a\0ISO_IR 100"),
            ("series/second/0", &dicom),
            ("out/d.npy", b""),
        ] {
            fs::create_dir_all(at(name).parent().expect("a folder")).expect("made");
            fs::write(at(name), bytes).expect("written");
        }
        let root = folder.path().display().to_string();
        let found = find(&[root.clone(), at("a.npy").display().to_string()], Some(&at("out"))).expect("found");
        let relative: Vec<_> = found.iter().map(|c| c.input.trim_start_matches(&root).trim_start_matches('/')).collect();
        assert_eq!(relative, ["a.npy", "b.nii.gz", "bare", "deep/er/c.nii", "series"]);

        let same = find(std::slice::from_ref(&root), Some(folder.path())).expect_err("refused").to_string();
        assert!(same.contains("is the input folder"), "{same}");
        fs::create_dir(at("empty")).expect("made");
        let empty = find(&[at("empty").display().to_string()], None).expect_err("refused").to_string();
        assert!(empty.contains("no scan in this folder"), "{empty}");

        let series = at("series").display().to_string();
        let before = case(&series).sha256().expect("read");
        fs::write(at("series/second/0"), "other").expect("written");
        assert_ne!(case(&series).sha256().expect("read"), before);

        let one = |path: &str| only(&[at(path).display().to_string()]).map(|case| case.input);
        assert_eq!(one("series").expect("one case"), series);
        assert_eq!(one("deep").expect("one case"), at("deep/er/c.nii").display().to_string());
        assert_eq!(one("empty").expect("left to the reader"), at("empty").display().to_string());
        assert!(only(&[root]).expect_err("several").to_string().contains("the inputs are 6 cases"));
    }

    #[test]
    fn two_cases_of_one_name_are_refused() {
        assert!(check_names(&[case("a/x.npy"), case("b/y.npy")], Case::name).is_ok());
        let error = check_names(&[case("a/x.npy"), case("b/X.nii.gz")], Case::name).expect_err("refused").to_string();
        assert!(error.contains("a/x.npy and b/X.nii.gz would both"), "{error}");
    }

    #[test]
    fn shards_share_the_cases_without_loss() {
        let cases: Vec<Case> = (0..7).map(|i| case(&i.to_string())).collect();
        let mut all: Vec<Case> = (1..=3).flat_map(|index| Shard { index, of: 3 }.take(cases.clone())).collect();
        all.sort();
        assert_eq!(all, cases);
        assert_eq!(Shard::ALL.take(cases.clone()), cases);
        assert_eq!("2/3".parse::<Shard>().expect("a shard"), Shard { index: 2, of: 3 });
        for text in ["", "0/3", "4/3", "1", "1/0", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
