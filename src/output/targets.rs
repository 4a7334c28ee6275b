//! Decides whether a file may be written. No output may replace an input, another output, or somebody else's file. No
//! other module makes this decision.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::ours::{Origin, is_manifest_name};
use crate::archive::{FileId, folder_of, is_stream};
use crate::error::{Error, Result};

/// The files that a command reads and writes, checked against each other before anything is loaded.
///
/// Paths are compared by the files on the disk that they lead to. Other spellings, symlinks and hard links are seen as
/// the same file.
///
/// ```
/// use meddino::output::Targets;
///
/// let folder = tempfile::tempdir()?;
/// let scan = folder.path().join("scan.nii.gz");
/// std::fs::write(&scan, "HU")?;
/// let mut targets = Targets::new(false);
/// targets.reads("the scan", [&scan]);
/// assert!(targets.writes(&folder.path().join("labels.nii.gz")).is_ok());
/// assert!(targets.writes(&scan).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Targets {
    /// Whether files that this program did not write may be replaced.
    overwrite: bool,
    /// For each file that is read: its path, and what it is ("the scan").
    read: HashMap<FileId, (PathBuf, String)>,
    /// For each place on the disk: the target that claimed it.
    written: HashMap<PathBuf, PathBuf>,
}

impl Targets {
    /// Starts with no files. With `overwrite`, files that this program did not write may be replaced, but inputs may
    /// not.
    pub fn new(overwrite: bool) -> Self {
        Self { overwrite, ..Self::default() }
    }

    /// Returns whether files that this program did not write may be replaced.
    pub fn may_overwrite(&self) -> bool {
        self.overwrite
    }

    /// Records that `files` are read as `what` ("the scan", "the checkpoint"), so that no target may be one of them.
    /// Files that do not exist are ignored.
    pub fn reads(&mut self, what: &str, files: impl IntoIterator<Item = impl AsRef<Path>>) {
        for file in files {
            let path = file.as_ref();
            if let Some(id) = FileId::of(path) {
                self.read.entry(id).or_insert_with(|| (path.into(), what.into()));
            }
        }
    }

    /// Records that `target` will be written.
    ///
    /// # Errors
    /// If `target` is a file that is read or that another target writes, or has the name of a manifest. Unless files
    /// may be overwritten, also if `target` exists and this program did not write it, or somebody changed it since.
    pub fn writes(&mut self, target: impl AsRef<Path>) -> Result<()> {
        let target = target.as_ref();
        self.claim(target)?;
        judge(target, self.in_the_way(target))
    }

    /// Records that a converted checkpoint will be written to `target`. It may replace another checkpoint.
    ///
    /// # Errors
    /// As [`Targets::writes`].
    pub fn converts(&mut self, target: impl AsRef<Path>) -> Result<()> {
        let target = target.as_ref();
        self.claim(target)?;
        judge(target, self.in_the_way(target).filter(|origin| *origin != Origin::Checkpoint))
    }

    /// Records that `target` will be written, where an earlier run wrote a file of this name. `is_the_same` says
    /// whether the file at `target` has exactly the bytes that the earlier run wrote. It is called only if the file
    /// itself does not show that this program wrote it and nobody changed it.
    ///
    /// # Errors
    /// As [`Targets::writes`].
    pub fn rewrites(&mut self, target: impl AsRef<Path>, is_the_same: impl FnOnce() -> bool) -> Result<()> {
        let target = target.as_ref();
        self.claim(target)?;
        match self.in_the_way(target) {
            None | Some(Origin::AsWritten) => Ok(()),
            Some(_) if is_the_same() => Ok(()),
            Some(_) => Err(changed(target)),
        }
    }

    /// Claims `target`, or refuses it if it is a file that is read or that another target writes.
    fn claim(&mut self, target: &Path) -> Result<()> {
        let refuse = |problem: String| Err(Error::output(target.display(), problem));
        if target.file_name().and_then(|name| name.to_str()).is_some_and(is_manifest_name) {
            return refuse("is what the manifest of a folder of outputs is called; give another name".into());
        }
        if let Some((path, what)) = self.reader_of(target) {
            return refuse(format!("would take the place of {what}, {}; give another name", path.display()));
        }
        if let Some(other) = self.written.insert(place(target), target.into()) {
            return refuse(format!("is where {} goes as well; give them two names", other.display()));
        }
        Ok(())
    }

    /// Returns the origin of the file that `target` would replace, or `None` if there is no file or any file may be
    /// replaced.
    fn in_the_way(&self, target: &Path) -> Option<Origin> {
        let is_there = !self.overwrite && target.is_file() && !is_stream(target);
        is_there.then(|| Origin::of(target))
    }

    /// Returns the input at `target`, or at one of the hidden names of its unfinished file.
    fn reader_of(&self, target: &Path) -> Option<&(PathBuf, String)> {
        let hidden = |suffix: &str| {
            let mut name = OsString::from(".");
            name.push(target.file_name().unwrap_or_default());
            name.push(format!(".{suffix}"));
            target.with_file_name(name)
        };
        let names = [target.to_path_buf(), hidden("partial"), hidden("new.partial")];
        names.iter().find_map(|name| self.read.get(&FileId::of(name)?))
    }
}

/// Refuses to replace the file of origin `in_the_way` at `target`, unless this program wrote it.
fn judge(target: &Path, in_the_way: Option<Origin>) -> Result<()> {
    let refuse = |problem: &str| Err(Error::output(target.display(), problem));
    match in_the_way {
        None | Some(Origin::AsWritten) => Ok(()),
        Some(Origin::Checkpoint) => refuse("is a checkpoint; add `overwrite` to replace it, or give another name"),
        Some(Origin::Changed) => Err(changed(target)),
        Some(Origin::Others) => {
            refuse("is there already, and meddino did not write it; add `overwrite` to replace it, or give another name")
        }
    }
}

fn changed(target: &Path) -> Error {
    let problem = "is not as meddino wrote it: it was changed or damaged since; add `overwrite` to compute it again, move it away, or leave its scan out";
    Error::output(target.display(), problem)
}

/// Returns the place of `target` on the disk, whether or not a file exists there. The path is in lower case, because
/// some file systems do not distinguish upper and lower case.
fn place(target: &Path) -> PathBuf {
    let target = target.canonicalize().unwrap_or_else(|_| {
        let folder = folder_of(target);
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
        folder.join(target.file_name().unwrap_or_default())
    });
    match target.to_str() {
        Some(text) => text.to_lowercase().into(),
        None => target,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn desk() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_path_buf();
        (folder, move |name: &str| root.join(name))
    }

    fn refused(targets: &mut Targets, target: &Path) -> String {
        targets.writes(target).expect_err("refused").to_string()
    }

    #[test]
    fn an_input_is_known_under_every_name() {
        let (_folder, at) = desk();
        fs::create_dir_all(at("scans/sub")).expect("made");
        fs::write(at("scans/a.nii"), "HU").expect("written");
        fs::hard_link(at("scans/a.nii"), at("hard.nii")).expect("linked");
        #[cfg_attr(not(unix), allow(unused_mut, reason = "symlinks are made on Unix alone"))]
        let mut names = vec![at("scans/a.nii"), at("scans/sub/../a.nii"), at("scans/./a.nii"), at("hard.nii")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("scans", at("linked")).expect("linked");
            std::os::unix::fs::symlink("a.nii", at("scans/link.nii")).expect("linked");
            names.extend([at("linked/a.nii"), at("scans/link.nii")]);
        }
        for name in names {
            let mut targets = Targets::new(true);
            targets.reads("the scan", [at("scans/a.nii")]);
            let error = refused(&mut targets, &name);
            assert!(error.contains("would take the place of the scan"), "{}: {error}", name.display());
        }
        let mut targets = Targets::new(true);
        fs::write(at("scans/.out.partial"), "HU").expect("written");
        targets.reads("the scan", [at("scans/.out.partial"), at("missing")]);
        assert!(refused(&mut targets, &at("scans/out")).contains("the scan"), "its unfinished file would");
        targets.writes(at("missing")).expect("what is not there cannot be lost");
    }

    #[test]
    fn two_outputs_do_not_share_a_file() {
        let (_folder, at) = desk();
        fs::create_dir(at("sub")).expect("made");
        let mut targets = Targets::new(true);
        targets.writes(at("x.png")).expect("free");
        assert!(refused(&mut targets, &at("sub/../x.png")).contains("two names"));
        assert!(refused(&mut targets, &at("manifest.jsonl")).contains("the manifest of a folder"));
        assert!(refused(&mut targets, &at("X.png")).contains("two names"), "as some file systems have it");
        targets.writes(at("y.png")).expect("free");
    }

    #[test]
    fn what_others_wrote_stays_unless_it_is_said() {
        let (_folder, at) = desk();
        fs::write(at("theirs"), "text").expect("written");
        fs::write(at("ours"), r#"{"meddino": "0.1.0"}"#).expect("written");
        let error = refused(&mut Targets::new(false), &at("theirs"));
        assert!(error.contains("`overwrite`"), "{error}");
        Targets::new(true).writes(at("theirs")).expect("as it was said");
        let error = Targets::new(false).rewrites(at("theirs"), || false).expect_err("refused").to_string();
        assert!(error.contains("changed or damaged since; add `overwrite`"), "{error}");
        Targets::new(false).rewrites(at("theirs"), || true).expect("as it is known to be ours");
        let mut targets = Targets::new(false);
        targets.reads("the scan", [at("theirs")]);
        assert!(targets.rewrites(at("theirs"), || true).is_err(), "an input is not replaced even so");
        Targets::new(false).writes(at("ours")).expect("as our own");
        Targets::new(false).writes("/dev/null").expect("nothing is replaced");
    }
}
