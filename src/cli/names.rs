//! What the outputs of cases are called: their files' names, and as many of the folders above as tell the cases of one command apart.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use meddino::{Error, Result};

use super::cases::Case;
use super::search::ENDINGS;
use super::text::text;

/// How many folders a name keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Names {
    /// As few as tell all cases apart, and as many for each.
    #[default]
    Auto,
    /// None.
    File,
    /// One.
    Parent,
    /// All below the folder that was given.
    Path,
}

impl Names {
    /// Names `cases`, each by its own, of which `own` makes what is kept; `flag` says where the outputs go.
    ///
    /// # Errors
    /// If two cases have the same name.
    pub fn give(self, cases: &mut [Case], own: fn(&str) -> &str, flag: &str) -> Result<()> {
        let named = |folders: &dyn Fn(&Case) -> usize| -> Vec<String> {
            cases.iter().map(|case| format!("{}{}", own(&name(&case.input, folders(case))), case.tail)).collect()
        };
        let names = match self {
            Self::File => named(&|_| 0),
            Self::Parent => named(&|_| 1),
            Self::Path => named(&|case| case.folders),
            Self::Auto => {
                let most = cases.iter().map(|case| parts(&case.input).len()).max().unwrap_or(0);
                (0..most).map(|folders| named(&|_| folders)).find(|names| twins(names).is_none()).unwrap_or_else(|| named(&|_| 0))
            }
        };
        if let Some((one, other)) = twins(&names) {
            let problem = format!(
                "{} and {} would both be written as {}; run them apart, or let --exclude leave one out{}",
                cases[one].input.display(),
                cases[other].input.display(),
                names[other],
                if self == Self::Auto { "" } else { ", or choose other --names" }
            );
            return Err(Error::option(flag, problem));
        }
        cases.iter_mut().zip(names).for_each(|(case, name)| case.name = name);
        Ok(())
    }
}

/// The positions of the first two equal names.
fn twins(names: &[String]) -> Option<(usize, usize)> {
    let mut seen = HashMap::new();
    // Some file systems take upper and lower case for the same.
    names.iter().enumerate().find_map(|(index, name)| seen.insert(name.to_lowercase(), index).map(|first| (first, index)))
}

/// `case_0000` for `scans/case_0000.nii.gz`, `scans_case_0000` with one folder.
pub fn name(input: &Path, folders: usize) -> String {
    let mut parts = parts(input);
    let last = parts.pop().map_or_else(|| "scan".into(), |last| if input.is_dir() { last } else { without_ending(&last) });
    let kept = parts.len().saturating_sub(folders);
    parts.drain(..kept);
    parts.push(last);
    parts.join("_")
}

fn without_ending(name: &str) -> String {
    let lower = name.to_lowercase();
    let known = ENDINGS.iter().chain(&[".dcm"]).find(|ending| lower.ends_with(*ending) && lower.len() > ending.len());
    match known {
        Some(ending) => name[..name.len() - ending.len()].to_string(),
        None => text(Path::new(name).file_stem().unwrap_or_default()),
    }
}

/// The names that lead to `input` from the root. Links are not followed: they are named by whoever made them.
fn parts(input: &Path) -> Vec<String> {
    let whole = std::path::absolute(input).unwrap_or_else(|_| input.into());
    let mut plain = PathBuf::new();
    for component in whole.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: Names, inputs: &[&str]) -> Result<Vec<String>, String> {
        let mut cases: Vec<Case> = inputs.iter().map(Case::new).collect();
        cases.iter_mut().zip(inputs).for_each(|(case, input)| case.folders = input.matches('/').count());
        of.give(&mut cases, |name| name, "--out-dir").map_err(|e| e.to_string())?;
        Ok(cases.into_iter().map(|case| case.name).collect())
    }

    #[test]
    fn a_name_alone_is_that_of_nnunet() {
        for (input, want) in [
            ("a/case_0000.nii.gz", "case_0000"),
            ("case_0000.NII", "case_0000"),
            ("pair.hdr.gz", "pair"),
            ("b.c.npy", "b.c"),
            ("x.dcm", "x"),
            ("phantom", "phantom"),
            (".npy", ".npy"),
            ("IM0001", "IM0001"),
            ("a/../b/./c.nii", "c"),
        ] {
            assert_eq!(name(Path::new(input), 0), want, "{input}");
        }
        assert_eq!(name(Path::new("a/../b/./c.nii"), 1), "b_c");
    }

    #[test]
    fn as_many_folders_are_kept_as_tell_all_apart() {
        let is = |of, inputs: &[&str], want: &[&str]| assert_eq!(names(of, inputs).expect("named"), want);
        is(Names::Auto, &["s/a.npy", "s/b.npy"], &["a", "b"]);
        is(Names::Auto, &["t/s0000/ct.nii.gz", "t/s0001/ct.nii.gz", "t/s0002/other.nii.gz"], &["s0000_ct", "s0001_ct", "s0002_other"]);
        is(Names::Auto, &["p1/s/1", "p1/s/2", "p2/s/1"], &["p1_s_1", "p1_s_2", "p2_s_1"]);
        is(Names::File, &["x/a.npy", "y/b.npy"], &["a", "b"]);
        is(Names::Parent, &["t/x/a.npy", "t/y/b.npy"], &["x_a", "y_b"]);
        is(Names::Path, &["t/x/a.npy", "b.npy"], &["t_x_a", "b"]);
        for (of, inputs, said) in [
            (Names::Auto, ["x/a.npy", "x/A.nii.gz"], "x/a.npy and x/A.nii.gz would both be written as A"),
            (Names::File, ["x/a.npy", "y/a.npy"], "choose other --names"),
            (Names::Parent, ["x/s/a.npy", "y/s/a.npy"], "as s_a"),
            // Joined names meet, too.
            (Names::Parent, ["x/a_b.npy", "x_a/b.npy"], "as x_a_b"),
        ] {
            let error = names(of, &inputs).expect_err("refused");
            assert!(error.starts_with("--out-dir: ") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_cut_off_a_name_is_so_before_names_are_told_apart() {
        let mut cases = ["s/a_0000.npy", "t/a.npy"].map(Case::new);
        Names::Auto.give(&mut cases, |name| name.strip_suffix("_0000").unwrap_or(name), "--output").expect("named");
        assert_eq!(cases.map(|case| case.name), ["s_a", "t_a"]);
    }
}
