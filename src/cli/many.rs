//! One command over many cases: into a folder, each once, whatever becomes of the others.

use std::fs;
use std::path::{Path, PathBuf};

use meddino::{Error, Result};

use super::cases::{Case, Shard, check_names, find};
use super::interrupt;
use super::manifest::{Manifest, Work};
use super::say::{self, Done, Failure, Say, result};

/// The cases of a run and the folder that their outputs go into.
pub struct Many {
    folder: PathBuf,
    shard: Shard,
    cases: Vec<Case>,
    manifest: Manifest,
}

/// What decides the outputs beside the inputs.
pub struct Settings<'a> {
    /// Of the output files, without a dot.
    pub ending: &'a str,
    /// SHA-256 of everything that was set.
    pub sha256: String,
    /// What the weights are known by.
    pub checkpoint: &'a str,
}

impl Many {
    /// Finds the cases that `inputs` name, and takes the share of `shard`. The folder is made if there is none.
    pub fn open(inputs: &[String], folder: &Path, shard: Shard) -> Result<Self> {
        let all = find(inputs, Some(folder))?;
        check_names(&all)?;
        fs::create_dir_all(folder).map_err(|e| Error::output(folder.display(), format!("the folder cannot be made: {e}")))?;
        let manifest = Manifest::open(folder, shard)?;
        Ok(Self { folder: folder.to_path_buf(), shard, cases: shard.take(all), manifest })
    }

    /// Does `work` for every case that is not finished already, and prints where the outputs are.
    ///
    /// A case that fails is told of at once, and again in the failure that this ends with.
    pub fn run(mut self, settings: &Settings, say: Say, mut work: impl FnMut(&Case, &Path) -> Result<(), Failure>) -> Done {
        let total = self.cases.len();
        if self.shard != Shard::ALL {
            say.note(format_args!("shard {} of {}: {total} cases", self.shard.index, self.shard.of));
        }
        let (mut skipped, mut failed) = (0, Vec::new());
        for (number, case) in std::mem::take(&mut self.cases).iter().enumerate() {
            interrupt::check()?;
            let target = self.folder.join(format!("{}.{}", case.name(), settings.ending));
            let done = self.one(case, &target, settings, |case, target| {
                say.note(format_args!("case {} of {total}: {}", number + 1, case.input));
                work(case, target)
            });
            match done {
                Ok(true) => {}
                Ok(false) => skipped += 1,
                Err(Failure::Error(error)) => {
                    say::error(&error);
                    failed.push(error.to_string());
                    continue;
                }
                Err(other) => return Err(other),
            }
            result(target.display())?;
        }
        if skipped > 0 {
            say.note(format_args!("{skipped} of {total} cases were finished by an earlier run and are left as they are"));
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::Cases(format!("{} of {total} cases failed:\n  {}", failed.len(), failed.join("\n  "))))
        }
    }

    /// One case; whether it had to be done.
    fn one(
        &mut self,
        case: &Case,
        target: &Path,
        settings: &Settings,
        mut work: impl FnMut(&Case, &Path) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let this = Work {
            output: target.file_name().unwrap_or_default().to_string_lossy().to_string(),
            input_sha256: case.sha256()?.unwrap_or_default(),
            settings: settings.sha256.clone(),
            checkpoint: settings.checkpoint.to_string(),
        };
        if self.manifest.is_finished(&this) {
            return Ok(false);
        }
        work(case, target)?;
        self.manifest.add(&case.input, this)?;
        Ok(true)
    }
}
