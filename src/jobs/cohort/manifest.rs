//! What is finished in a folder of outputs, so that a rerun does not do it again.

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
use crate::jobs::observer::Observer;
use crate::jobs::text::name_text;
use crate::output::is_manifest_name;

/// What a finished case was made of and by. Equal work gives equal outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The name of its first output in the folder.
    pub output: String,
    /// What the input's content is known by; empty for what is built in.
    pub input_sha256: String,
    /// Which series of it; empty for the only one.
    pub series: String,
    /// SHA-256 of everything that was set.
    #[serde(rename = "settings_sha256")]
    pub settings: String,
    /// What the checkpoint is known by.
    pub checkpoint: String,
}

impl Work {
    /// Whether the output's name says which series of its folder it is of, as `--series all` has it.
    fn is_of_several(&self) -> bool {
        !self.series.is_empty() && self.output.contains(&format!("{}.", tail(&self.series)))
    }
}

/// A file as it was when its case was finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    name: String,
    bytes: u64,
    sha256: String,
}

/// A line of a manifest.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    input: String,
    #[serde(flatten)]
    work: Work,
    /// Every file that the case became.
    files: Vec<Written>,
    /// When the case was finished, in milliseconds since 1970: for people.
    #[serde(skip_deserializing)]
    finished_ms: u64,
}

/// The manifests of a folder: lines of JSON, appended to as cases are finished. Each shard writes a file of its own and reads all.
///
/// A record is believed if it describes the files that are there, by their hashes. So it does not matter which of two records was written later,
/// or by whose clock.
#[derive(Debug)]
pub struct Manifest {
    folder: PathBuf,
    /// Where records are added.
    path: PathBuf,
    file: Option<File>,
    /// Whether the last line lacks its end, because a run was killed or the disk was full.
    is_cut: bool,
    /// The records of each first output.
    finished: HashMap<String, Vec<Record>>,
    /// The first outputs of each input that is one case.
    outputs: HashMap<String, BTreeSet<String>>,
    /// Every file that is in a record, and the hashes that it had.
    files: HashMap<String, HashSet<String>>,
}

impl Manifest {
    /// Reads the manifests of all shards in `folder`, which need not exist; records will be added to that of `shard`.
    ///
    /// # Errors
    /// If one cannot be read.
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

    /// Opens the file that records are added to, and makes it if there is none.
    ///
    /// # Errors
    /// If it cannot be written, or a link or another thing stands under its name.
    pub fn open(&mut self) -> Result<()> {
        let fail = |problem: String| Error::output(self.path.display(), problem);
        let mut file = open_own(&self.path, File::options().read(true).append(true).create(true)).map_err(fail)?;
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
            [line] => observer.warn(&format!("{}: line {line} cannot be read and is ignored", path.display())),
            [first, ..] => {
                observer.warn(&format!("{}: {} lines cannot be read and are ignored, from line {first} on", path.display(), unread.len()));
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

    /// Whether this very work is done, and all of `files`, which it becomes, are still there as it left them.
    pub fn is_finished(&self, work: &Work, files: &[PathBuf]) -> bool {
        let mut records = self.finished.get(&work.output).into_iter().flatten().filter(|record| record.work == *work).peekable();
        // What is there is read once, and only if it may be what was written.
        let of_size = |record: &Record| record.files.iter().map(|file| file.bytes).eq(files.iter().map(|path| size(path)));
        if !records.clone().any(of_size) {
            return false;
        }
        files
            .iter()
            .map(|path| written(path))
            .collect::<io::Result<Vec<_>>>()
            .is_ok_and(|there| records.any(|record| record.files == there))
    }

    /// The input of another scan of which `files`, as they are there now, were made, if it is still there beside the
    /// input called `input`. A scan that was only renamed or copied is no other one.
    pub fn of_another(&self, input: &str, work: &Work, files: &[PathBuf]) -> Option<&str> {
        let records = self.finished.get(&work.output)?;
        let there: Vec<_> = files.iter().filter_map(|path| written(path).ok()).collect();
        let is_there = |record: &&Record| record.files.iter().any(|file| there.contains(file));
        let mut of_it = records.iter().filter(is_there);
        if of_it.clone().any(|record| record.input == input || record.work.input_sha256 == work.input_sha256) {
            return None;
        }
        let real = |input: &str| Path::new(input).canonicalize().ok();
        of_it.find(|record| real(&record.input).is_some_and(|other| Some(other) != real(input))).map(|record| record.input.as_str())
    }

    /// Files beside the first output called `output` that an earlier run wrote and that are none of `files`: a
    /// picture, say, that this run was not asked for.
    pub fn left_over(&self, output: &str, files: &[PathBuf]) -> BTreeSet<PathBuf> {
        let records = self.finished.get(output).into_iter().flatten();
        let all = records.flat_map(|record| &record.files).map(|file| self.folder.join(&file.name));
        all.filter(|path| !files.iter().any(|file| file.file_name() == path.file_name()) && path.is_file()).collect()
    }

    /// Whether a case is known to have become the file at `path`, which is one of the folder's.
    pub fn knows(&self, path: &Path) -> bool {
        self.hashes(path).is_some()
    }

    /// Whether a case is known to have become the file at `path` with the very bytes that it has now.
    pub fn wrote(&self, path: &Path) -> bool {
        self.hashes(path).is_some_and(|hashes| sha256_of_file(path).is_ok_and(|hash| hashes.contains(&hash)))
    }

    fn hashes(&self, path: &Path) -> Option<&HashSet<String>> {
        self.files.get(&name_text(path.file_name()?))
    }

    /// Another first output with this `ending` that the input called `input` has here, if it has none called `name`.
    pub fn other_name(&self, input: &str, name: &str, ending: &str) -> Option<&str> {
        let outputs = self.outputs.get(input)?;
        let ending = format!(".{ending}");
        let is_other = |output: &&String| output.ends_with(&ending) && self.folder.join(output).exists();
        let other = outputs.iter().find(is_other).map(String::as_str);
        other.filter(|_| !outputs.contains(&format!("{name}{ending}")))
    }

    /// Notes in the open file that `files`, which `work` of the input called `input` becomes, are complete.
    ///
    /// # Errors
    /// If one cannot be read, or the disk is full or fails.
    ///
    /// # Panics
    /// If the file of records is not open ([`Manifest::open`]).
    pub fn add(&mut self, input: &str, work: Work, files: &[PathBuf]) -> Result<()> {
        let there = |path: &PathBuf| written(path).map_err(|e| Error::output(path.display(), e));
        let files = files.iter().map(there).collect::<Result<Vec<_>>>()?;
        let finished_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let record = Record { input: input.into(), work, files, finished_ms };
        // As a value first, because that sorts the names.
        let line = serde_json::to_value(&record).expect("texts and numbers are JSON");
        self.append(&format!("{line}\n")).map_err(|e| Error::output(self.path.display(), e))?;
        self.keep(record);
        Ok(())
    }

    /// Writes `line` in one piece: another process may append to the same file.
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

/// Whether the last line has no end.
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

fn written(path: &Path) -> io::Result<Written> {
    let sha256 = sha256_of_file(path)?;
    Ok(Written { name: path.file_name().map(name_text).unwrap_or_default(), bytes: size(path), sha256 })
}

/// The record in a line, if it is one.
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
    fn what_one_shard_finished_every_run_knows() {
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
    fn the_record_of_the_file_that_is_there_counts_whatever_the_clocks_say() {
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
    fn a_broken_line_does_not_count_and_spoils_no_other() {
        let desk = Desk::new();
        desk.open(Shard::ALL).add("x", work("a", "1"), &desk.files()).expect("written");
        let path = desk.at("manifest.jsonl");
        let line = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("nonsense\n{{}}\n{line}{}", &line[..40])).expect("written");
        assert!(desk.knows(&work("a", "1")));
        // What follows a half line stands on its own.
        desk.open(Shard::ALL).add("x", work("a", "2"), &desk.files()).expect("written");
        assert!(desk.knows(&work("a", "1")) && desk.knows(&work("a", "2")));
        assert_eq!(fs::read_to_string(&path).expect("read").lines().count(), 5);
    }

    #[test]
    fn a_name_of_before_is_known() {
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
    fn no_link_is_written_through() {
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

    /// Lines that nobody wrote are records or none: any byte may be another one, any part be missing or twice there.
    #[test]
    fn damaged_lines_are_records_or_none() {
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
        assert!((1..20_000).contains(&records), "{records} of 20000 are records: some should be, and some not");
    }
}
