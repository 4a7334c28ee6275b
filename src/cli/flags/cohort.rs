//! The flags that say which scans are looked at, and what they are called.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use meddino::jobs::{self, Pattern};
use meddino::{Error, Result};

/// Which of the scans in folders are cases, and what those are called.
#[derive(clap::Args)]
pub struct Cohort {
    /// Take only those scans in folders that match GLOB; may be given several times. A GLOB without a / is compared
    /// with the names of files and folders. One with a / is compared with paths below INPUT ('*/ct.nii.gz'), and **
    /// stands for any number of folders. Folders of labels (labelsTr, segmentations, masks, ...) and files that
    /// meddino wrote are passed over, unless such a path names them
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<Glob>,
    /// Leave out files and folders that match GLOB, a folder with all that is in it; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<Glob>,
    /// How a case's outputs are called in a folder: file, by the scan's file name alone; parent, with the folder that
    /// it lies in, as s0001_ct; path, with all folders below INPUT; auto, with as many folders as tell all cases
    /// apart. With auto, names may change when scans are added
    #[arg(long, value_enum, value_name = "auto|file|parent|path", default_value = "auto", hide_possible_values = true)]
    pub names: Names,
}

impl Cohort {
    /// The scans that the flags mean, and `inputs` and `series`; `output` is the flag that says where outputs go.
    pub fn of(&self, inputs: &[PathBuf], series: Option<&str>, output: &'static str) -> jobs::Cohort {
        let patterns = |globs: &[Glob]| globs.iter().map(|glob| glob.0.clone()).collect();
        jobs::Cohort {
            inputs: inputs.to_vec(),
            include: patterns(&self.include),
            exclude: patterns(&self.exclude),
            names: self.names.into(),
            series: series.map(Into::into),
            output,
        }
    }
}

/// How many folders a name keeps.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Names {
    #[default]
    Auto,
    File,
    Parent,
    Path,
}

impl From<Names> for jobs::Names {
    fn from(names: Names) -> Self {
        match names {
            Names::Auto => Self::Auto,
            Names::File => Self::File,
            Names::Parent => Self::Parent,
            Names::Path => Self::Path,
        }
    }
}

/// A pattern of file names, as a shell has them: `*` and `?` stop at a `/`, `**` does not. A pattern without a `/` is held against names, one with a `/`
/// against paths below the folder that is searched.
#[derive(Clone, Debug)]
pub struct Glob(Pattern);

impl FromStr for Glob {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const OPTIONS: glob::MatchOptions =
            glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
        let pattern = glob::Pattern::new(text.strip_prefix("./").unwrap_or(text));
        let pattern = pattern.map_err(|e| Error::option("pattern", format!("'{text}' is no pattern of file names: {e}")))?;
        let matches = move |subject: &str| pattern.matches_with(subject, OPTIONS);
        Ok(Self(if text.contains('/') { Pattern::of_paths(matches) } else { Pattern::of_names(matches) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        assert!("[".parse::<Glob>().expect_err("refused").to_string().contains("'[' is no pattern"));
    }
}
