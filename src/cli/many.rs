//! One command over many cases: into a folder, each once, whatever becomes of the others.

use std::path::{Path, PathBuf};

use meddino::output::Targets;
use meddino::{Error, Result};

use super::cases::{Case, Wanted};
use super::flag_names::error_with_flags;
use super::guard::{make_folder, read_of};
use super::interrupt;
use super::manifest::{Manifest, Work};
use super::say::{self, Done, Failure, Say, warn};
use super::shard::Shard;
use super::text::text;

/// The cases of a run and where their outputs go.
pub struct Many<'a> {
    outputs: Outputs<'a>,
    shard: Shard,
    cases: Vec<Case>,
    manifest: Manifest,
    may_overwrite: bool,
    /// Files of earlier runs with other settings, beside outputs of this one.
    left_over: Vec<PathBuf>,
}

/// Where outputs go, and what they are called.
pub struct Outputs<'a> {
    pub folder: &'a Path,
    /// Of the first output's name, without a dot.
    pub ending: &'a str,
    /// Every file that a case becomes whose first output is this.
    pub files: &'a dyn Fn(&Path) -> Vec<PathBuf>,
    /// What is kept of a case's own name.
    pub own: fn(&str) -> &str,
}

/// What decides the outputs beside the inputs.
pub struct Settings {
    /// SHA-256 of everything that was set.
    pub sha256: String,
    /// What the weights are known by.
    pub checkpoint: String,
}

impl<'a> Many<'a> {
    /// Finds the cases that are `wanted`, and takes the share of `shard`. The folder is made if there is none.
    ///
    /// # Errors
    /// If there are none, two have one name, or an output may not be written: `targets` know what else is read.
    pub fn open(wanted: Wanted, outputs: Outputs<'a>, shard: Shard, mut targets: Targets) -> Result<Self> {
        let all = wanted.cases(outputs.folder, outputs.own)?;
        for case in &all {
            // What cannot be listed cannot be read either, which is told of when its turn comes.
            targets.reads("a scan", read_of(&case.input).unwrap_or_default());
        }
        let folder = outputs.folder;
        let mut manifest = Manifest::read(folder, shard)?;
        let mut refused = Vec::new();
        for file in all.iter().flat_map(|case| (outputs.files)(&outputs.target(case))) {
            let asked = if manifest.knows(&file) { targets.rewrites(&file, || manifest.wrote(&file)) } else { targets.writes(&file) };
            refused.extend(asked.err());
        }
        refuse(folder, refused)?;
        make_folder(folder)?;
        manifest.open()?;
        let may_overwrite = targets.may_overwrite();
        Ok(Self { outputs, shard, cases: shard.take(all), manifest, may_overwrite, left_over: Vec::new() })
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
        self.warn_of_other_names();
        let (mut skipped, mut failed) = (0, Vec::new());
        for (number, case) in std::mem::take(&mut self.cases).iter().enumerate() {
            interrupt::check()?;
            let target = self.outputs.target(case);
            let done = self.one(case, &target, settings, |case, target| {
                say.note(format_args!("case {} of {total}: {}", number + 1, case.input.display()));
                work(case, target)
            });
            match done {
                Ok(done) => {
                    skipped += usize::from(done.is_none());
                    show(case, &target, done)?;
                }
                Err(Failure::Error(error)) => {
                    let told = told(case, &error_with_flags(error));
                    say::error(&told);
                    failed.push(told);
                }
                Err(other) => return Err(other),
            }
        }
        if skipped > 0 {
            say.note(format_args!("{skipped} of {total} cases were finished by an earlier run and are left as they are"));
        }
        if let Some(first) = self.left_over.first() {
            warn(format_args!(
                "{}: {} files beside the outputs are of an earlier run with other settings, as {}; they are left as they are",
                self.outputs.folder.display(),
                self.left_over.len(),
                first.display()
            ));
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::Cases(format!("{} of {total} cases failed:\n  {}", failed.len(), failed.join("\n  "))))
        }
    }

    /// Names keep as many folders as tell all cases apart: when a case comes that needs more, the others' names change with it.
    fn warn_of_other_names(&self) {
        let other = |case: &Case| {
            let other = self.manifest.other_name(&case.text(), &case.name, self.outputs.ending)?;
            Some((other, format!("{}.{}", case.name, self.outputs.ending)))
        };
        // The series of one folder have one input.
        let others: Vec<_> = self.cases.iter().filter(|case| case.tail.is_empty()).filter_map(other).collect();
        if let Some((then, now)) = others.first() {
            warn(format_args!(
                "{}: {} of the cases have outputs of another name here, for example {then}, now {now}: a name has as many folders as tell all cases apart, \
                 and other cases are here now; the old files stay, and --names fixes how names are made",
                self.outputs.folder.display(),
                others.len()
            ));
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
        let files = (self.outputs.files)(target);
        let this = Work {
            output: text(target.file_name().unwrap_or_default()),
            input_sha256: case.sha256()?.unwrap_or_default(),
            series: case.series.clone().unwrap_or_default(),
            settings: settings.sha256.clone(),
            checkpoint: settings.checkpoint.clone(),
        };
        if self.manifest.is_finished(&this, &files) {
            return Ok(None);
        }
        if !self.may_overwrite
            && let Some(other) = self.manifest.of_another(&case.text(), &this, &files)
        {
            let problem = format!(
                "was made of another scan, {other}, and would be replaced by what {} becomes; give another folder, tell them apart by --names, or add --overwrite",
                case.input.display()
            );
            return Err(Error::output(target.display(), problem).into());
        }
        let done = work(case, target)?;
        self.left_over.extend(self.manifest.left_over(&this.output, &files));
        self.manifest.add(&case.text(), this, &files)?;
        Ok(Some(done))
    }
}

/// The error of outputs that may not be written: the first, and how many there are.
fn refuse(folder: &Path, mut errors: Vec<Error>) -> Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        count => Err(Error::output(folder.display(), format!("{count} files in it may not be replaced; the first: {}", errors[0]))),
    }
}

/// The error, with the case that it is of: one about an option names no file.
fn told(case: &Case, error: &Error) -> String {
    let (input, text) = (case.input.display().to_string(), error.to_string());
    if text.contains(&input) { text } else { format!("{input}: {text}") }
}

impl Outputs<'_> {
    /// The first output of a case.
    fn target(&self, case: &Case) -> PathBuf {
        self.folder.join(format!("{}.{}", case.name, self.ending))
    }
}
