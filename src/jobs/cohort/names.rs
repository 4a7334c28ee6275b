//! The names of outputs: the scan's file name, with as few folder names as make all names of a cohort unique.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::jobs::case::Case;
use crate::jobs::name::{name, parts};

/// How many folders above a scan are part of its outputs' name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// As few as make all names unique, and the same number for each case.
    #[default]
    Auto,
    /// No folder.
    File,
    /// One folder.
    Parent,
    /// All folders below the input folder.
    Path,
}

impl Names {
    /// Names `cases`. `kept` returns the part of a scan's name that outputs keep. Errors name `parameter`, the
    /// parameter of the output folder.
    ///
    /// # Errors
    /// If two cases have the same name.
    pub(super) fn give(self, cases: &mut [Case], kept: fn(&str) -> &str, parameter: &str) -> Result<()> {
        let named = |folders: &dyn Fn(&Case) -> usize| -> Vec<String> {
            cases.iter().map(|case| format!("{}{}", kept(&name(&case.input, folders(case))), case.tail)).collect()
        };
        let names = match self {
            Self::File => named(&|_| 0),
            Self::Parent => named(&|_| 1),
            Self::Path => named(&|case| case.folders),
            Self::Auto => {
                let most = cases.iter().map(|case| parts(&case.input).len()).max().unwrap_or(0);
                (0..most).map(|folders| named(&|_| folders)).find(|names| duplicates(names).is_none()).unwrap_or_else(|| named(&|_| 0))
            }
        };
        if let Some((first, second)) = duplicates(&names) {
            let problem = format!(
                "{} and {} would both be written as {}; run them separately, or skip one with `exclude`{}",
                cases[first].input.display(),
                cases[second].input.display(),
                names[second],
                if self == Self::Auto { "" } else { ", or choose other `names`" }
            );
            return Err(Error::option(parameter, problem));
        }
        cases.iter_mut().zip(names).for_each(|(case, name)| case.name = name);
        Ok(())
    }
}

/// Returns the positions of the first two equal names.
fn duplicates(names: &[String]) -> Option<(usize, usize)> {
    let mut seen = HashMap::new();
    // Some file systems ignore case.
    names.iter().enumerate().find_map(|(index, name)| seen.insert(name.to_lowercase(), index).map(|first| (first, index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: Names, inputs: &[&str]) -> Result<Vec<String>, String> {
        let mut cases: Vec<Case> = inputs.iter().map(Case::new).collect();
        cases.iter_mut().zip(inputs).for_each(|(case, input)| case.folders = input.matches('/').count());
        of.give(&mut cases, |name| name, "out-dir").map_err(|e| e.to_string())?;
        Ok(cases.into_iter().map(|case| case.name).collect())
    }

    #[test]
    fn names_keep_as_few_folders_as_make_them_unique() {
        let is = |of, inputs: &[&str], want: &[&str]| assert_eq!(names(of, inputs).expect("named"), want);
        is(Names::Auto, &["s/a.npy", "s/b.npy"], &["a", "b"]);
        is(Names::Auto, &["t/s0000/ct.nii.gz", "t/s0001/ct.nii.gz", "t/s0002/other.nii.gz"], &["s0000_ct", "s0001_ct", "s0002_other"]);
        is(Names::Auto, &["p1/s/1", "p1/s/2", "p2/s/1"], &["p1_s_1", "p1_s_2", "p2_s_1"]);
        is(Names::File, &["x/a.npy", "y/b.npy"], &["a", "b"]);
        is(Names::Parent, &["t/x/a.npy", "t/y/b.npy"], &["x_a", "y_b"]);
        is(Names::Path, &["t/x/a.npy", "b.npy"], &["t_x_a", "b"]);
        for (of, inputs, message) in [
            (Names::Auto, ["x/a.npy", "x/A.nii.gz"], "x/a.npy and x/A.nii.gz would both be written as A"),
            (Names::File, ["x/a.npy", "y/a.npy"], "choose other `names`"),
            (Names::Parent, ["x/s/a.npy", "y/s/a.npy"], "as s_a"),
            // Different paths may join to the same name.
            (Names::Parent, ["x/a_b.npy", "x_a/b.npy"], "as x_a_b"),
        ] {
            let error = names(of, &inputs).expect_err("refused");
            assert!(error.starts_with("out-dir: ") && error.contains(message), "{error}");
        }
    }

    #[test]
    fn names_are_compared_after_their_suffix_is_removed() {
        let mut cases = ["s/a_0000.npy", "t/a.npy"].map(Case::new);
        Names::Auto.give(&mut cases, |name| name.strip_suffix("_0000").unwrap_or(name), "output").expect("named");
        assert_eq!(cases.map(|case| case.name), ["s_a", "t_a"]);
    }
}
