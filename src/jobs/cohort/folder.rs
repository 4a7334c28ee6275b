//! One job over many cases: into a folder, each once, whatever becomes of the others.

use std::path::{Path, PathBuf};

use super::inputs::Cohort;
use super::manifest::{Manifest, Work};
use super::shard::Shard;
use crate::error::{Error, Result};
use crate::jobs::case::Case;
use crate::jobs::observer::{Observer, check};
use crate::jobs::reads::{make_folder, read_of};
use crate::jobs::text::name_text;
use crate::output::Targets;

/// A folder of outputs, and the cases whose outputs go into it.
pub struct OutputFolder<'a> {
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
    /// The folder, which is made if there is none.
    pub folder: &'a Path,
    /// Of the first output's name, without a dot.
    pub ending: &'a str,
    /// Every file that a case becomes whose first output is this.
    pub files: &'a dyn Fn(&Path) -> Vec<PathBuf>,
    /// What is kept of a scan's name.
    pub kept: fn(&str) -> &str,
}

/// What decides the outputs beside the inputs.
pub struct Settings {
    /// SHA-256 of everything that was set.
    pub sha256: String,
    /// What the weights are known by.
    pub checkpoint: String,
}

/// What became of the cases.
#[derive(Debug, Default)]
pub struct CohortReport {
    /// How many cases there are.
    pub total: usize,
    /// How many of them an earlier run had finished.
    pub finished_before: usize,
    /// The cases that failed, and why.
    pub failed: Vec<(Case, Error)>,
}

impl<'a> OutputFolder<'a> {
    /// Finds the cases of `cohort`, and takes the part `shard` of them. `targets` know what else the job reads.
    ///
    /// # Errors
    /// If there is no case, two have one name, or an output may not be written.
    pub fn open(cohort: &Cohort, outputs: Outputs<'a>, shard: Shard, mut targets: Targets, observer: &dyn Observer) -> Result<Self> {
        let all = cohort.cases(outputs.folder, outputs.kept, observer)?;
        for case in &all {
            // What cannot be listed cannot be read either, which is told of when its turn comes.
            targets.reads("a scan", read_of(&case.input).unwrap_or_default());
        }
        let folder = outputs.folder;
        let mut manifest = Manifest::read(folder, shard, observer)?;
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

    /// Does `work` for every case that is not finished already, and has `show` tell where the outputs are, and what `work` gave if it had to
    /// be done. The observer hears of a case that fails at once; the others go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the observer cancels the job, and what `show` returns. Cases that fail are in the report.
    pub fn run<T>(
        mut self,
        settings: &Settings,
        observer: &dyn Observer,
        mut work: impl FnMut(&Case, &Path) -> Result<T>,
        mut show: impl FnMut(&Case, &Path, Option<T>) -> Result<()>,
    ) -> Result<CohortReport> {
        let mut report = CohortReport { total: self.cases.len(), ..CohortReport::default() };
        if self.shard != Shard::ALL {
            observer.note(&format!("shard {} of {}: {} cases", self.shard.index, self.shard.of, report.total));
        }
        self.warn_of_other_names(observer);
        for (number, case) in (1..).zip(&std::mem::take(&mut self.cases)) {
            check(observer)?;
            let target = self.outputs.target(case);
            let done = self.one(case, &target, settings, |case, target| {
                observer.note(&format!("case {number} of {}: {}", report.total, case.input.display()));
                work(case, target)
            });
            match done {
                Ok(done) => {
                    report.finished_before += usize::from(done.is_none());
                    show(case, &target, done)?;
                }
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => {
                    observer.failed(case, &error);
                    report.failed.push((case.clone(), error));
                }
            }
        }
        self.tell_end(&report, observer);
        Ok(report)
    }

    fn tell_end(&self, report: &CohortReport, observer: &dyn Observer) {
        let CohortReport { total, finished_before, .. } = report;
        if *finished_before > 0 {
            observer.note(&format!("{finished_before} of {total} cases were finished by an earlier run and are left as they are"));
        }
        if let Some(first) = self.left_over.first() {
            observer.warn(&format!(
                "{}: {} files beside the outputs are of an earlier run with other settings, as {}; they are left as they are",
                self.outputs.folder.display(),
                self.left_over.len(),
                first.display()
            ));
        }
    }

    /// Names keep as many folders as tell all cases apart: when a case comes that needs more, the others' names change with it.
    fn warn_of_other_names(&self, observer: &dyn Observer) {
        let other = |case: &Case| {
            let other = self.manifest.other_name(&case.text(), &case.name, self.outputs.ending)?;
            Some((other, format!("{}.{}", case.name, self.outputs.ending)))
        };
        // The series of one folder have one input.
        let others: Vec<_> = self.cases.iter().filter(|case| case.tail.is_empty()).filter_map(other).collect();
        if let Some((then, now)) = others.first() {
            observer.warn(&format!(
                "{}: {} of the cases have outputs of another name here, for example {then}, now {now}: a name has as many folders as tell all cases apart, \
                 and other cases are here now; the old files stay, and `names` fixes how names are made",
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
        work: impl FnOnce(&Case, &Path) -> Result<T>,
    ) -> Result<Option<T>> {
        let files = (self.outputs.files)(target);
        let this = Work {
            output: name_text(target.file_name().unwrap_or_default()),
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
                "was made of another scan, {other}, and would be replaced by what {} becomes; give another folder, tell them apart by `names`, or add `overwrite`",
                case.input.display()
            );
            return Err(Error::output(target.display(), problem));
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

impl Outputs<'_> {
    /// The first output of a case.
    fn target(&self, case: &Case) -> PathBuf {
        self.folder.join(format!("{}.{}", case.name, self.ending))
    }
}
