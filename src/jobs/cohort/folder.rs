//! One job over many cases, into a folder. Finished cases are skipped, and a failed case does not stop the others.

use std::path::{Path, PathBuf};

use super::inputs::Cohort;
use super::manifest::{Manifest, Work};
use super::shard::Shard;
use crate::error::{Error, Result};
use crate::jobs::case::Case;
use crate::jobs::observer::{Observer, check, warn};
use crate::jobs::reads::{make_folder, read_of};
use crate::jobs::text::name_text;
use crate::output::Targets;

/// A folder of outputs and the cases that it is for.
pub struct OutputFolder<'a> {
    outputs: Outputs<'a>,
    shard: Shard,
    cases: Vec<Case>,
    manifest: Manifest,
    may_overwrite: bool,
    /// Files that earlier runs with other settings wrote beside outputs of this run.
    left_over: Vec<PathBuf>,
}

/// The folder and the names of outputs.
pub struct Outputs<'a> {
    /// The folder, which is created if missing.
    pub folder: &'a Path,
    /// The ending of the first output's name, without a dot.
    pub ending: &'a str,
    /// Returns every file of a case, given its first output.
    pub files: &'a dyn Fn(&Path) -> Vec<PathBuf>,
    /// Returns the part of a scan's name that its outputs keep.
    pub kept: fn(&str) -> &str,
}

/// The settings and weights that decide the outputs, besides the inputs.
pub struct Settings {
    /// SHA-256 of all settings.
    pub sha256: String,
    /// The identity of the weights, such as a hash.
    pub checkpoint: String,
}

/// The results of a job over many cases.
#[derive(Debug, Default)]
pub struct CohortReport {
    /// Number of cases.
    pub total: usize,
    /// Number of cases that an earlier run finished.
    pub finished_before: usize,
    /// The failed cases and their errors.
    pub failed: Vec<(Case, Error)>,
}

impl<'a> OutputFolder<'a> {
    /// Finds the cases of `cohort` and keeps the part `shard` of them. `targets` holds the other files that the job
    /// reads.
    ///
    /// # Errors
    /// If there is no case, two cases have the same name, or an output may not be replaced.
    pub fn open(cohort: &Cohort, outputs: Outputs<'a>, shard: Shard, mut targets: Targets, observer: &dyn Observer) -> Result<Self> {
        let cases = cohort.cases(outputs.folder, outputs.kept, observer)?;
        for case in &cases {
            // A scan that cannot be listed cannot be read either; its case reports that error.
            targets.reads("a scan", read_of(&case.input).unwrap_or_default());
        }
        let folder = outputs.folder;
        let mut manifest = Manifest::read(folder, shard, observer)?;
        let mut refused = Vec::new();
        for file in cases.iter().flat_map(|case| (outputs.files)(&outputs.target(case))) {
            let checked = if manifest.knows(&file) { targets.rewrites(&file, || manifest.wrote(&file)) } else { targets.writes(&file) };
            refused.extend(checked.err());
        }
        refuse(folder, refused)?;
        make_folder(folder)?;
        manifest.open()?;
        let may_overwrite = targets.may_overwrite();
        Ok(Self { outputs, shard, cases: shard.take(cases), manifest, may_overwrite, left_over: Vec::new() })
    }

    /// Returns the cases.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Leaves out the cases for which `is_wanted` is false.
    #[must_use]
    pub fn only(mut self, is_wanted: impl Fn(&Case) -> bool) -> Self {
        self.cases.retain(is_wanted);
        self
    }

    /// Returns the first output of each case.
    pub fn targets(&self) -> Vec<PathBuf> {
        self.cases.iter().map(|case| self.outputs.target(case)).collect()
    }

    /// Calls `work` for every case that is not finished yet, and then `show` with the case's first output and the
    /// result of `work`, or none for a case that was finished before. The observer receives a case's failure at once,
    /// and the other cases continue.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the observer cancels the job, and the errors of `show`. The report holds the failed
    /// cases.
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
            let done = self.process(case, &target, settings, |case, target| {
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
        self.report_end(&report, observer);
        Ok(report)
    }

    fn report_end(&self, report: &CohortReport, observer: &dyn Observer) {
        let CohortReport { total, finished_before, .. } = report;
        if *finished_before > 0 {
            observer.note(&format!("{finished_before} of {total} cases are skipped, because an earlier run finished them"));
        }
        if let Some(first) = self.left_over.first() {
            warn(
                observer,
                &format!(
                    "{}: {} files of an earlier run with other settings are still here, such as {}",
                    self.outputs.folder.display(),
                    self.left_over.len(),
                    first.display()
                ),
            );
        }
    }

    /// Warns of cases whose outputs had other names. Names contain as few folders as make all names unique, so a new
    /// case may change the names of the others.
    fn warn_of_other_names(&self, observer: &dyn Observer) {
        let renamed = |case: &Case| {
            let earlier = self.manifest.other_name(&case.text(), &case.name, self.outputs.ending)?;
            Some((earlier, format!("{}.{}", case.name, self.outputs.ending)))
        };
        // The series of a folder share one input, so their names are not compared.
        let renamed: Vec<_> = self.cases.iter().filter(|case| case.tail.is_empty()).filter_map(renamed).collect();
        if let Some((before, now)) = renamed.first() {
            warn(
                observer,
                &format!(
                    "{}: {} cases have an older output of another name, such as {before}, now {now}, which stays; set `names` to keep names stable",
                    self.outputs.folder.display(),
                    renamed.len()
                ),
            );
        }
    }

    /// Processes a case unless it is finished. Returns the result of `work`, or none for a case that was finished
    /// before.
    fn process<T>(
        &mut self,
        case: &Case,
        target: &Path,
        settings: &Settings,
        work: impl FnOnce(&Case, &Path) -> Result<T>,
    ) -> Result<Option<T>> {
        let files = (self.outputs.files)(target);
        let current = Work {
            output: name_text(target.file_name().unwrap_or_default()),
            input_sha256: case.sha256()?.unwrap_or_default(),
            series: case.series.clone().unwrap_or_default(),
            settings: settings.sha256.clone(),
            checkpoint: settings.checkpoint.clone(),
        };
        if self.manifest.is_finished(&current, &files) {
            return Ok(None);
        }
        if !self.may_overwrite
            && let Some(other) = self.manifest.of_another(&case.text(), &current, &files)
        {
            let problem = format!(
                "was made from another scan, {other}, and the output of {} would replace it; give another folder, choose other `names`, or add `overwrite`",
                case.input.display()
            );
            return Err(Error::output(target.display(), problem));
        }
        let done = work(case, target)?;
        self.left_over.extend(self.manifest.left_over(&current.output, &files));
        self.manifest.add(&case.text(), current, &files)?;
        Ok(Some(done))
    }
}

/// Fails with the first of `errors`, and their number if there are several.
fn refuse(folder: &Path, mut errors: Vec<Error>) -> Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        count => Err(Error::output(folder.display(), format!("{count} files in it may not be replaced; the first error: {}", errors[0]))),
    }
}

impl Outputs<'_> {
    /// Returns the path of a case's first output.
    fn target(&self, case: &Case) -> PathBuf {
        self.folder.join(format!("{}.{}", case.name, self.ending))
    }
}
