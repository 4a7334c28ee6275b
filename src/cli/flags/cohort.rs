//! The flags that choose scans from folders and name their outputs.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use meddino::jobs::{self, Pattern};
use meddino::{Error, Result};

/// Which scans in folders become cases, and how their outputs are named.
#[derive(clap::Args)]
pub struct Cohort {
    /// Take only scans in folders that match GLOB; may be given several times
    ///
    /// A GLOB without a / matches the names of files and folders. A GLOB with a / matches paths below INPUT
    /// ('*/ct.nii.gz'); ** matches any number of folders. Label folders (labelsTr, segmentations, masks, ...) and files
    /// that meddino wrote are skipped unless a GLOB with a / matches them.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<Glob>,
    /// Skip files, and whole folders, that match GLOB; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<Glob>,
    /// How outputs in a folder are named
    ///
    /// file uses the scan's file name alone. parent adds the folder that holds the scan (s0001_ct). path adds all
    /// folders below INPUT. auto adds as few folders as make all names unique, so names may change when scans are
    /// added.
    #[arg(long, value_enum, value_name = "auto|file|parent|path", default_value = "auto", hide_possible_values = true)]
    pub names: Names,
}

impl Cohort {
    /// Builds the cohort of `inputs` and `series` with these flags; `output` is the flag that names the outputs'
    /// folder.
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

/// How many folders the name of an output keeps.
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

/// A shell pattern of file names: `*` and `?` stop at a `/`, `**` does not. A pattern without a `/` matches names, and
/// a pattern with a `/` matches paths below the folder that is searched.
#[derive(Clone, Debug)]
pub struct Glob(Pattern);

impl FromStr for Glob {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const OPTIONS: glob::MatchOptions =
            glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
        let pattern = glob::Pattern::new(text.strip_prefix("./").unwrap_or(text));
        let pattern = pattern.map_err(|e| Error::option("pattern", format!("'{text}' is not a pattern of file names: {e}")))?;
        let matches = move |subject: &str| pattern.matches_with(subject, OPTIONS);
        Ok(Self(if text.contains('/') { Pattern::of_paths(matches) } else { Pattern::of_names(matches) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_pattern_is_refused() {
        assert!("[".parse::<Glob>().expect_err("refused").to_string().contains("'[' is not a pattern"));
    }
}
