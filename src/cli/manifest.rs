//! What is finished in a folder of outputs, so that a rerun does not do it again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use meddino::{Error, Result};
use serde_json::{Value, json};

use super::cases::Shard;
use super::say::warn;

/// What a finished output was made of and by. Equal work gives equal outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The output's name in the folder.
    pub output: String,
    /// SHA-256 of the input's content; empty for what is built in.
    pub input_sha256: String,
    /// SHA-256 of everything that was set.
    pub settings: String,
    /// SHA-256 of the checkpoint, or `seeded:N`.
    pub checkpoint: String,
}

/// The manifests of a folder: lines of JSON, appended to as cases are finished. Each shard writes a file of its own and reads all.
pub struct Manifest {
    folder: PathBuf,
    file: File,
    path: PathBuf,
    /// The latest record of each output: when, its size, and of what work.
    finished: BTreeMap<String, (u64, u64, Work)>,
}

impl Manifest {
    /// Opens the manifest of `folder` for `shard`, and reads those of all.
    pub fn open(folder: &Path, shard: Shard) -> Result<Self> {
        let name = match shard {
            Shard::ALL => "manifest.jsonl".into(),
            Shard { index, of } => format!("manifest.{index}-of-{of}.jsonl"),
        };
        let path = folder.join(name);
        let fail = |e| Error::output(path.display(), e);
        let mut file = File::options().read(true).append(true).create(true).open(&path).map_err(fail)?;
        end_line(&mut file).map_err(fail)?;
        let mut manifest = Self { folder: folder.to_path_buf(), file, path, finished: BTreeMap::new() };
        manifest.read_all()?;
        Ok(manifest)
    }

    fn read_all(&mut self) -> Result<()> {
        let folder = self.folder.clone();
        let fail = |e| Error::output(folder.display(), e);
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("manifest."));
            if named && path.extension().is_some_and(|ending| ending == "jsonl") {
                let bytes = fs::read(&path).map_err(|e| Error::output(path.display(), e))?;
                self.read(&path, &String::from_utf8_lossy(&bytes));
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path, text: &str) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let Some((finished, bytes, work)) = parse(line) else {
                warn(format_args!("{}: line {} cannot be read and is ignored", path.display(), number + 1));
                continue;
            };
            let known = self.finished.get(&work.output).is_some_and(|known| known.0 > finished);
            if !known {
                self.finished.insert(work.output.clone(), (finished, bytes, work));
            }
        }
    }

    /// Whether this very work is done and its output still there, whole.
    pub fn is_finished(&self, work: &Work) -> bool {
        self.finished.get(&work.output).is_some_and(|(_, bytes, done)| done == work && self.size(work) == Some(*bytes))
    }

    fn size(&self, work: &Work) -> Option<u64> {
        fs::metadata(self.folder.join(&work.output)).ok().map(|about| about.len())
    }

    /// Notes that the output of `work`, of the input called `input`, is complete.
    pub fn add(&mut self, input: &str, work: Work) -> Result<()> {
        let bytes = self.size(&work).unwrap_or(0);
        let finished = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let Work { output, input_sha256, settings, checkpoint } = &work;
        let record = json!({
            "input": input, "input_sha256": input_sha256, "settings_sha256": settings, "checkpoint": checkpoint,
            "output": output, "bytes": bytes, "finished_ms": finished,
        });
        // In one piece: another process may append to the same file.
        let written = self.file.write_all(format!("{record}\n").as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|e| Error::output(self.path.display(), e))?;
        self.finished.insert(work.output.clone(), (finished, bytes, work));
        Ok(())
    }
}

/// Ends a line that a killed run left half.
fn end_line(file: &mut File) -> std::io::Result<()> {
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn parse(line: &str) -> Option<(u64, u64, Work)> {
    let record: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| record[key].as_str().map(ToString::to_string);
    let work = Work {
        output: text("output")?,
        input_sha256: text("input_sha256")?,
        settings: text("settings_sha256")?,
        checkpoint: text("checkpoint")?,
    };
    Some((record["finished_ms"].as_u64()?, record["bytes"].as_u64()?, work))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(output: &str, input: &str) -> Work {
        Work { output: output.into(), input_sha256: input.into(), settings: "s".into(), checkpoint: "c".into() }
    }

    #[test]
    fn what_one_shard_finished_every_run_knows() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a"), "12345").expect("written");
        let mut one = Manifest::open(folder.path(), Shard { index: 1, of: 2 }).expect("opened");
        one.add("a.npy", work("a", "1")).expect("written");
        let all = Manifest::open(folder.path(), Shard::ALL).expect("opened");
        assert!(all.is_finished(&work("a", "1")));
        assert!(!all.is_finished(&work("a", "2")), "another input");
        assert!(!all.is_finished(&Work { settings: "t".into(), ..work("a", "1") }), "other settings");
        assert!(!all.is_finished(&Work { checkpoint: "d".into(), ..work("a", "1") }), "another checkpoint");
        fs::write(folder.path().join("a"), "1234").expect("written");
        assert!(!all.is_finished(&work("a", "1")), "cut short");
        fs::remove_file(folder.path().join("a")).expect("removed");
        assert!(!all.is_finished(&work("a", "1")), "deleted");
    }

    #[test]
    fn the_latest_record_counts_and_a_broken_line_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a"), "12345").expect("written");
        let record = |ms: u64, input: &str| {
            format!(
                r#"{{"input":"x","input_sha256":"{input}","settings_sha256":"s","checkpoint":"c","output":"a","bytes":5,"finished_ms":{ms}}}"#
            )
        };
        let lines = format!("{}\nnonsense\n{{}}\n{}\n{}", record(7, "new"), record(3, "old"), &record(9, "half")[..40]);
        fs::write(folder.path().join("manifest.jsonl"), lines).expect("written");
        let mut manifest = Manifest::open(folder.path(), Shard::ALL).expect("opened");
        assert!(manifest.is_finished(&work("a", "new")) && !manifest.is_finished(&work("a", "old")));
        // What follows a half line stands on its own.
        manifest.add("x", work("a", "newest")).expect("written");
        assert!(Manifest::open(folder.path(), Shard::ALL).expect("opened").is_finished(&work("a", "newest")));
    }

    /// Lines that nobody wrote are records or none: any byte may be another one, any part be missing or twice there.
    #[test]
    fn damaged_lines_are_records_or_none() {
        let record =
            r#"{"input":"x","input_sha256":"i","settings_sha256":"s","checkpoint":"c","output":"a","bytes":5,"finished_ms":7}"#.as_bytes();
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
