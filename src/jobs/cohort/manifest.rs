//! The finished cases of an output folder, so that a rerun skips them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::shard::Shard;
use crate::archive::{open_own, open_plain, sha256_of_file};
use crate::error::{Error, Result};
use crate::jobs::name::tail;
use crate::jobs::observer::{Observer, warn};
use crate::jobs::text::name_text;
use crate::output::is_manifest_name;

/// The input, settings and weights of a case's outputs. Equal work gives equal outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The name of the first output in the folder.
    pub output: String,
    /// The hash of the input's content; empty for the built-in slice.
    pub input_sha256: String,
    /// The chosen series of the input; empty if there is only one.
    pub series: String,
    /// SHA-256 of all settings.
    #[serde(rename = "settings_sha256")]
    pub settings: String,
    /// The identity of the weights, such as a hash.
    pub checkpoint: String,
}

impl Work {
    /// Returns whether the output's name contains the series, as with `--series all`.
    fn is_of_several(&self) -> bool {
        !self.series.is_empty() && self.output.contains(&format!("{}.", tail(&self.series)))
    }
}

/// The state of a file when its case was finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileState {
    name: String,
    bytes: u64,
    sha256: String,
}

/// A line of a manifest, about one finished case.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    input: String,
    #[serde(flatten)]
    work: Work,
    /// Every output file of the case.
    files: Vec<FileState>,
    /// The time when the case was finished, in milliseconds since 1970. Only for people.
    #[serde(skip_deserializing)]
    finished_ms: u64,
}

/// The manifests of an output folder, as lines of JSON, one for each finished case. Each shard appends to its own file
/// and reads all files.
///
/// A record counts only if the hashes in it match the files in the folder. Therefore the order of records and the
/// clocks of machines do not matter.
#[derive(Debug)]
pub struct Manifest {
    folder: PathBuf,
    /// The file that records are appended to.
    path: PathBuf,
    file: Option<File>,
    /// Whether the last line has no line break, because a run was killed or the disk was full.
    is_cut: bool,
    /// The records of each case, by the first output's name.
    finished: HashMap<String, Vec<Record>>,
    /// The first outputs of each input, except for one of several series.
    outputs: HashMap<String, BTreeSet<String>>,
    /// The recorded hashes of every file in a record, by the file's name.
    files: HashMap<String, HashSet<String>>,
}

impl Manifest {
    /// Reads the manifests of all shards in `folder`, which need not exist. New records go to the manifest of `shard`.
    ///
    /// # Errors
    /// If a manifest cannot be read.
    pub fn read(folder: &Path, shard: Shard, observer: &dyn Observer) -> Result<Self> {
        let name = match shard {
            Shard::ALL => "manifest.jsonl".into(),
            Shard { index, of } => format!("manifest.{index}-of-{of}.jsonl"),
        };
        let (path, folder) = (folder.join(name), folder.to_path_buf());
        let (finished, outputs, files) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut manifest = Self { folder, path, file: None, is_cut: false, finished, outputs, files };
        if manifest.folder.is_dir() {
            manifest.read_all(observer)?;
        }
        Ok(manifest)
    }

    /// Opens the file that records are appended to, and creates it if missing.
    ///
    /// # Errors
    /// If the file cannot be written, or its name belongs to a link or to something that is not a plain file.
    pub fn open(&mut self) -> Result<()> {
        let fail = |problem: String| Error::output(self.path.display(), problem);
        let mut file = open_own(&self.path, File::options().read(true).append(true).create(true))
            .map_err(|problem| Error::output(self.path.display(), problem))?;
        self.is_cut = is_cut(&mut file).map_err(|e| fail(e.to_string()))?;
        self.file = Some(file);
        Ok(())
    }

    fn read_all(&mut self, observer: &dyn Observer) -> Result<()> {
        let folder = self.folder.clone();
        let fail = |e| Error::output(folder.display(), e);
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if is_manifest_name(&path.file_name().map(name_text).unwrap_or_default()) {
                let mut bytes = Vec::new();
                let read = open_plain(&path).and_then(|mut file| file.read_to_end(&mut bytes));
                read.map_err(|e| Error::output(path.display(), e))?;
                self.read_text(&path, &String::from_utf8_lossy(&bytes), observer);
            }
        }
        Ok(())
    }

    fn read_text(&mut self, path: &Path, text: &str, observer: &dyn Observer) {
        let mut unread = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            match parse(line) {
                Some(record) => self.keep(record),
                None => unread.push(number),
            }
        }
        match unread[..] {
            [] => {}
            [line] => warn(observer, &format!("{}: line {line} cannot be read and is ignored", path.display())),
            [first, ..] => {
                warn(observer, &format!("{}: {} lines cannot be read and are ignored, from line {first} on", path.display(), unread.len()));
            }
        }
    }

    fn keep(&mut self, record: Record) {
        for file in &record.files {
            self.files.entry(file.name.clone()).or_default().insert(file.sha256.clone());
        }
        if !record.work.is_of_several() {
            self.outputs.entry(record.input.clone()).or_default().insert(record.work.output.clone());
        }
        self.finished.entry(record.work.output.clone()).or_default().push(record);
    }

    /// Returns whether `work` is done and all of its output `files` are unchanged.
    pub fn is_finished(&self, work: &Work, files: &[PathBuf]) -> bool {
        let mut records = self.finished.get(&work.output).into_iter().flatten().filter(|record| record.work == *work).peekable();
        // Hashing the files is slow, so their sizes are compared first.
        let of_size = |record: &Record| record.files.iter().map(|file| file.bytes).eq(files.iter().map(|path| size(path)));
        if !records.clone().any(of_size) {
            return false;
        }
        files
            .iter()
            .map(|path| describe(path))
            .collect::<io::Result<Vec<_>>>()
            .is_ok_and(|present| records.any(|record| record.files == present))
    }

    /// Returns the path of another scan that `files`, in their present state, were made from, if that scan still exists
    /// besides `input`. A renamed or copied scan with the same content does not count as another scan.
    pub fn of_another(&self, input: &str, work: &Work, files: &[PathBuf]) -> Option<&str> {
        let records = self.finished.get(&work.output)?;
        let present: Vec<_> = files.iter().filter_map(|path| describe(path).ok()).collect();
        let is_present = |record: &&Record| record.files.iter().any(|file| present.contains(file));
        let mut matching = records.iter().filter(is_present);
        if matching.clone().any(|record| record.input == input || record.work.input_sha256 == work.input_sha256) {
            return None;
        }
        let real = |input: &str| Path::new(input).canonicalize().ok();
        matching.find(|record| real(&record.input).is_some_and(|other| Some(other) != real(input))).map(|record| record.input.as_str())
    }

    /// Returns files beside the first output `output` that an earlier run wrote and that are not among `files`, such as
    /// a picture that this run does not draw.
    pub fn left_over(&self, output: &str, files: &[PathBuf]) -> BTreeSet<PathBuf> {
        let records = self.finished.get(output).into_iter().flatten();
        let recorded = records.flat_map(|record| &record.files).map(|file| self.folder.join(&file.name));
        recorded.filter(|path| !files.iter().any(|file| file.file_name() == path.file_name()) && path.is_file()).collect()
    }

    /// Returns whether a record names the file at `path`, which is in the folder.
    pub fn knows(&self, path: &Path) -> bool {
        self.hashes(path).is_some()
    }

    /// Returns whether a record names the file at `path` with its present content.
    pub fn wrote(&self, path: &Path) -> bool {
        self.hashes(path).is_some_and(|hashes| sha256_of_file(path).is_ok_and(|hash| hashes.contains(&hash)))
    }

    fn hashes(&self, path: &Path) -> Option<&HashSet<String>> {
        self.files.get(&name_text(path.file_name()?))
    }

    /// Returns an existing first output of `input` that has this `ending` and another name than `name`, if no record of
    /// `input` has `name`.
    pub fn other_name(&self, input: &str, name: &str, ending: &str) -> Option<&str> {
        let outputs = self.outputs.get(input)?;
        let ending = format!(".{ending}");
        let is_other = |output: &&String| output.ends_with(&ending) && self.folder.join(output).exists();
        let other = outputs.iter().find(is_other).map(String::as_str);
        other.filter(|_| !outputs.contains(&format!("{name}{ending}")))
    }

    /// Records in the open file that `work` of `input` is finished and wrote `files`.
    ///
    /// # Errors
    /// If a file cannot be read, or the disk is full or fails.
    ///
    /// # Panics
    /// If [`Manifest::open`] was not called.
    pub fn add(&mut self, input: &str, work: Work, files: &[PathBuf]) -> Result<()> {
        let described = |path: &PathBuf| describe(path).map_err(|e| Error::output(path.display(), e));
        let files = files.iter().map(described).collect::<Result<Vec<_>>>()?;
        let finished_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let record = Record { input: input.into(), work, files, finished_ms };
        // Converting to a `Value` first sorts the keys.
        let line = serde_json::to_value(&record).expect("texts and numbers are JSON");
        self.append(&format!("{line}\n")).map_err(|e| Error::output(self.path.display(), e))?;
        self.keep(record);
        Ok(())
    }

    /// Writes `line` with a single call, because another process may append to the same file.
    fn append(&mut self, line: &str) -> io::Result<()> {
        let piece = if self.is_cut { format!("\n{line}") } else { line.to_string() };
        let file = self.file.as_mut().expect("open");
        self.is_cut = true;
        if file.write(piece.as_bytes())? < piece.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the disk is full"));
        }
        self.is_cut = false;
        file.sync_data()
    }
}

/// Returns whether the last line has no line break.
fn is_cut(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(u64::MAX, |about| about.len())
}

fn describe(path: &Path) -> io::Result<FileState> {
    let sha256 = sha256_of_file(path)?;
    Ok(FileState { name: path.file_name().map(name_text).unwrap_or_default(), bytes: size(path), sha256 })
}

/// Parses the record in a line; none if the line is not a record.
fn parse(line: &str) -> Option<Record> {
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn work(output: &str, input: &str) -> Work {
        Work { output: output.into(), input_sha256: input.into(), series: String::new(), settings: "s".into(), checkpoint: "c".into() }
    }

    struct Desk(tempfile::TempDir);

    impl Desk {
        /// A folder with the outputs `a` and `a.png`.
        fn new() -> Self {
            let desk = Self(tempfile::tempdir().expect("a folder"));
            desk.put("a", "12345");
            desk.put("a.png", "123");
            desk
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.at(name), text).expect("written");
        }

        fn files(&self) -> [PathBuf; 2] {
            [self.at("a"), self.at("a.png")]
        }

        fn open(&self, shard: Shard) -> Manifest {
            let mut manifest = Manifest::read(self.0.path(), shard, &()).expect("read");
            manifest.open().expect("opened");
            manifest
        }

        fn knows(&self, work: &Work) -> bool {
            self.open(Shard::ALL).is_finished(work, &self.files())
        }
    }

    #[test]
    fn every_run_skips_what_one_shard_finished() {
        let desk = Desk::new();
        desk.open(Shard { index: 1, of: 2 }).add("a.npy", work("a", "1"), &desk.files()).expect("written");
        assert!(desk.knows(&work("a", "1")));
        assert!(!desk.knows(&work("a", "2")), "another input");
        assert!(!desk.knows(&Work { series: "2".into(), ..work("a", "1") }), "another series");
        assert!(!desk.knows(&Work { settings: "t".into(), ..work("a", "1") }), "other settings");
        assert!(!desk.knows(&Work { checkpoint: "d".into(), ..work("a", "1") }), "another checkpoint");
        assert!(!desk.open(Shard::ALL).is_finished(&work("a", "1"), &desk.files()[..1]), "other files");
        for (name, text, what) in [
            ("a", "1234", "cut short"),
            ("a", "\0\0\0\0\0", "zeros"),
            ("a.png", "124", "the file beside it changed"),
            ("a.png", "", "empty"),
        ] {
            let before = fs::read_to_string(desk.at(name)).expect("read");
            desk.put(name, text);
            assert!(!desk.knows(&work("a", "1")), "{what}");
            desk.put(name, &before);
            assert!(desk.knows(&work("a", "1")));
        }
        fs::remove_file(desk.at("a.png")).expect("removed");
        assert!(!desk.knows(&work("a", "1")), "deleted");
    }

    #[test]
    fn the_record_that_matches_the_file_counts_whatever_the_clocks() {
        let desk = Desk::new();
        let note = |shard: usize, input: &str| {
            desk.open(Shard { index: shard, of: 2 }).add("x", work("a", input), &desk.files()).expect("written");
        };
        note(1, "old");
        desk.put("a", "54321");
        note(2, "new");
        // The first shard's clock is far ahead.
        let first = desk.at("manifest.1-of-2.jsonl");
        let mut record: Value = serde_json::from_str(&fs::read_to_string(&first).expect("read")).expect("JSON");
        record["finished_ms"] = json!(u64::MAX);
        let ahead = format!("{record}\n");
        fs::write(&first, ahead).expect("written");
        assert!(desk.knows(&work("a", "new")) && !desk.knows(&work("a", "old")));
        desk.put("a", "12345");
        assert!(desk.knows(&work("a", "old")) && !desk.knows(&work("a", "new")));
    }

    #[test]
    fn a_broken_line_is_ignored_and_other_lines_count() {
        let desk = Desk::new();
        desk.open(Shard::ALL).add("x", work("a", "1"), &desk.files()).expect("written");
        let path = desk.at("manifest.jsonl");
        let line = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("nonsense\n{{}}\n{line}{}", &line[..40])).expect("written");
        assert!(desk.knows(&work("a", "1")));
        // A record after an incomplete line starts on a new line.
        desk.open(Shard::ALL).add("x", work("a", "2"), &desk.files()).expect("written");
        assert!(desk.knows(&work("a", "1")) && desk.knows(&work("a", "2")));
        assert_eq!(fs::read_to_string(&path).expect("read").lines().count(), 5);
    }

    #[test]
    fn an_earlier_name_of_an_output_is_found() {
        let desk = Desk::new();
        let mut manifest = desk.open(Shard::ALL);
        desk.put("a.x", "");
        manifest.add("s0/ct.npy", work("a.x", "1"), &desk.files()).expect("written");
        assert_eq!(manifest.other_name("s0/ct.npy", "s0_a", "x"), Some("a.x"));
        for (input, name, ending) in [("s0/ct.npy", "a", "x"), ("s1/ct.npy", "s1_a", "x"), ("s0/ct.npy", "s0_a", "y")] {
            assert_eq!(manifest.other_name(input, name, ending), None, "{input} {name} {ending}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn links_are_not_written_through() {
        let desk = Desk::new();
        for made in ["symbolic", "hard"] {
            let path = desk.at("manifest.jsonl");
            match made {
                "symbolic" => std::os::unix::fs::symlink("a", &path).expect("linked"),
                _ => fs::hard_link(desk.at("a"), &path).expect("linked"),
            }
            let error = Manifest::read(desk.0.path(), Shard::ALL, &()).expect("read").open().expect_err("refused").to_string();
            assert!(error.contains("manifest.jsonl"), "{error}");
            assert_eq!(fs::read_to_string(desk.at("a")).expect("read"), "12345", "{made}");
            fs::remove_file(path).expect("removed");
        }
    }

    /// Parses records with random damage: changed bytes, missing parts and repeated parts. None may cause a panic.
    #[test]
    fn damaged_lines_do_not_panic() {
        let record = concat!(
            r#"{"input":"x","input_sha256":"i","series":"","settings_sha256":"s","checkpoint":"c","output":"a","#,
            r#""files":[{"name":"a","bytes":5,"sha256":"h"}]}"#
        );
        let record = record.as_bytes();
        assert!(parse(&String::from_utf8_lossy(record)).is_some());
        let others = b"{}[]\",:0-9e.\\\n\xFFa";
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut records = 0;
        for _ in 0..20_000 {
            let mut line = record.to_vec();
            for _ in 0..=random(3) {
                let at = random(line.len());
                match random(3) {
                    0 => line[at] = others[random(others.len())],
                    1 => drop(line.drain(at..(at + random(9)).min(line.len() - 1).max(at))),
                    _ => line = [&line[..at], &line[random(at + 1)..]].concat(),
                }
            }
            records += usize::from(parse(&String::from_utf8_lossy(&line)).is_some());
        }
        assert!((1..20_000).contains(&records), "{records} of 20000 are records; expected some of each kind");
    }
}
