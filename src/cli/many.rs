//! One command over many cases: into a folder, each once, whatever becomes of the others.

use std::fs;
use std::path::{Path, PathBuf};

use meddino::{Error, Result};

use super::cases::{Case, Shard, check_names, find};
use super::interrupt;
use super::manifest::{Manifest, Work};
use super::say::{self, Done, Failure, Say};

/// The cases of a run and the folder that their outputs go into.
pub struct Many {
    folder: PathBuf,
    shard: Shard,
    cases: Vec<Case>,
    /// What the outputs of a case are called, without an ending.
    name: fn(&Case) -> String,
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
    /// Finds the cases that `inputs` name, whose outputs will be called as `name` says, and takes the share of `shard`. The folder is made if there is none.
    pub fn open(inputs: &[String], folder: &Path, shard: Shard, name: fn(&Case) -> String) -> Result<Self> {
        let all = find(inputs, Some(folder))?;
        check_names(&all, name)?;
        fs::create_dir_all(folder).map_err(|e| Error::output(folder.display(), format!("the folder cannot be made: {e}")))?;
        let manifest = Manifest::open(folder, shard)?;
        Ok(Self { folder: folder.to_path_buf(), shard, cases: shard.take(all), name, manifest })
    }

    /// Does `work` for every case that is not finished already, and has `show` print where the outputs are, and what `work` gave if it had to be done.
    ///
    /// A case that fails is told of at once, and again in the failure that this ends with.
    pub fn run<T>(
        mut self,
        settings: &Settings,
        say: Say,
        mut work: impl FnMut(&Case, &Path) -> Result<T, Failure>,
        mut show: impl FnMut(&Case, &Path, Option<T>) -> Done,
    ) -> Done {
        let total = self.cases.len();
        if self.shard != Shard::ALL {
            say.note(format_args!("shard {} of {}: {total} cases", self.shard.index, self.shard.of));
        }
        let (mut skipped, mut failed) = (0, Vec::new());
        for (number, case) in std::mem::take(&mut self.cases).iter().enumerate() {
            interrupt::check()?;
            let target = self.folder.join(format!("{}.{}", (self.name)(case), settings.ending));
            let done = self.one(case, &target, settings, |case, target| {
                say.note(format_args!("case {} of {total}: {}", number + 1, case.input));
                work(case, target)
            });
            match done {
                Ok(done) => {
                    skipped += usize::from(done.is_none());
                    show(case, &target, done)?;
                }
                Err(Failure::Error(error)) => {
                    say::error(&error);
                    failed.push(error.to_string());
                }
                Err(other) => return Err(other),
            }
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

    /// One case; what `work` gave, if it had to be done.
    fn one<T>(
        &mut self,
        case: &Case,
        target: &Path,
        settings: &Settings,
        mut work: impl FnMut(&Case, &Path) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let this = Work {
            output: target.file_name().unwrap_or_default().to_string_lossy().to_string(),
            input_sha256: case.sha256()?.unwrap_or_default(),
            settings: settings.sha256.clone(),
            checkpoint: settings.checkpoint.to_string(),
        };
        if self.manifest.is_finished(&this) {
            return Ok(None);
        }
        let done = work(case, target)?;
        self.manifest.add(&case.input, this)?;
        Ok(Some(done))
    }
}
