//! The name of a case, from its scan's file name.

use std::path::{Component, Path, PathBuf};

use super::text::name_text;

/// Endings of scan files. `.nii.gz` comes before `.nii` and `.hdr.gz` before `.hdr`, so that the longest ending
/// matches.
pub(super) const ENDINGS: &[&str] = &[".nii.gz", ".nii", ".hdr.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".npy", ".safetensors"];

/// Returns the suffix of a case's name if the case is the series `series` of several.
pub(super) fn tail(series: &str) -> String {
    format!("_series{series}")
}

/// Returns the name of `input` with its last `folders` folders: for `scans/case_0000.nii.gz`, `case_0000` with none and
/// `scans_case_0000` with one.
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
    let ending = ENDINGS.iter().chain(&[".dcm"]).find(|ending| lower.ends_with(*ending) && lower.len() > ending.len());
    match ending {
        Some(ending) => name[..name.len() - ending.len()].to_string(),
        None => name_text(Path::new(name).file_stem().unwrap_or_default()),
    }
}

/// Returns the names of the folders from the root to `input`, and its own. Does not follow links, because users choose
/// the names of links on purpose.
pub(super) fn parts(input: &Path) -> Vec<String> {
    let absolute = std::path::absolute(input).unwrap_or_else(|_| input.into());
    let mut plain = PathBuf::new();
    for component in absolute.components() {
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
    fn a_name_without_folders_matches_nnunet() {
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
