//! What a scan is called by its file's name.

use std::path::{Component, Path, PathBuf};

use super::text::name_text;

/// Endings of files that are a scan each. The longer of two comes first.
pub(super) const ENDINGS: &[&str] = &[".nii.gz", ".nii", ".hdr.gz", ".hdr", ".npy", ".safetensors"];

/// What the name of a case ends in that is the series `series` of several.
pub(super) fn tail(series: &str) -> String {
    format!("_series{series}")
}

/// `case_0000` for `scans/case_0000.nii.gz`, `scans_case_0000` with one folder.
pub(super) fn name(input: &Path, folders: usize) -> String {
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
        None => name_text(Path::new(name).file_stem().unwrap_or_default()),
    }
}

/// The names that lead to `input` from the root. Links are not followed, because whoever made a link chose its name.
pub(super) fn parts(input: &Path) -> Vec<String> {
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
    plain.iter().map(name_text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
