//! The SHA-256 that identifies an input of one or more files by their contents and names.

use std::path::{Component, Path, PathBuf};

use super::sha256::{sha256, sha256_of_file};
use crate::error::Problem;

/// Returns the SHA-256 that identifies `files`, which are all the files that were read of `root`. If `root` itself is
/// the only file, returns the file's SHA-256, as `sha256sum` prints it. Otherwise returns the SHA-256 over the hash and
/// the name of each file, where the name is the path below `root`.
///
/// # Errors
/// If a file cannot be read. The text names the file.
pub fn identity(root: &Path, files: &[PathBuf]) -> Result<String, Problem> {
    if let [file] = files
        && file == root
    {
        return Ok(sha256_of_file(file)?);
    }
    let mut all = Vec::new();
    for file in files {
        let hash = sha256_of_file(file).map_err(|e| Problem::from(e).within(file.display()))?;
        all.extend_from_slice(hash.as_bytes());
        for part in file.strip_prefix(root).unwrap_or(file).components() {
            // No name contains a zero byte or a slash, so that `/` and 0 separate names unambiguously. The same names
            // give the same bytes on every system.
            if let Component::Normal(name) = part {
                all.push(b'/');
                all.extend_from_slice(name.as_encoded_bytes());
            }
        }
        all.push(0);
    }
    Ok(sha256(&all))
}

/// Returns the SHA-256 that identifies an input of `pieces` (name and SHA-256), which need not come from files: the hash
/// of a single piece, or the SHA-256 over the hash and the name of each, as [`identity`] computes it of files.
pub fn identity_of(pieces: &[(String, String)]) -> String {
    match pieces {
        [(_, hash)] => hash.clone(),
        pieces => sha256(pieces.iter().flat_map(|(name, hash)| [hash, "/", name, "\0"]).collect::<String>().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_content_and_every_name_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).expect("made");
        for (name, text) in [("a", "1"), ("b", "2"), ("c", "2"), ("deep/b", "2")] {
            fs::write(at(name), text).expect("written");
        }
        let of = |names: &[&str]| identity(folder.path(), &names.iter().map(|name| at(name)).collect::<Vec<_>>()).expect("read");
        let both = of(&["a", "b"]);
        assert_eq!(identity(&at("a"), &[at("a")]).expect("read"), sha256(b"1"));
        assert_ne!(of(&["a"]), sha256(b"1"), "the name counts");
        for others in [&["a", "c"][..], &["a", "deep/b"], &["a"], &["a", "b", "c"]] {
            assert_ne!(of(others), both, "{others:?}");
        }
        fs::write(at("b"), "3").expect("written");
        assert_ne!(of(&["a", "b"]), both);
        let error = identity(folder.path(), &[at("a"), at("missing")]).expect_err("no such file").to_string();
        assert!(error.contains("missing: "), "{error}");
    }
}
