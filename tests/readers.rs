//! Replays every file that ever broke a reader, and the seeds of the fuzzer; see `fuzz/README.md`.

#[path = "../fuzz/src/memory.rs"]
mod memory;
#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use targets::{Desk, TARGETS, Target};

#[global_allocator]
static ALLOCATOR: memory::Counted = memory::Counted;

/// The files of `folder`, each with its reader.
fn kept(folder: &str) -> Vec<(&'static Target, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let files = |target: &'static Target| {
        let entries = std::fs::read_dir(folder.join(target.name)).into_iter().flatten();
        entries.map(move |entry| (target, entry.expect("an entry").path()))
    };
    TARGETS.iter().flat_map(files).collect()
}

/// Replays the files. Returns the names of the readers that accepted at least one of them.
fn hold(kept: &[(&'static Target, PathBuf)]) -> BTreeSet<&'static str> {
    let desk = Desk::new();
    let (mut understood, mut problems) = (BTreeSet::new(), Vec::new());
    for (target, path) in kept {
        match target.hold(&desk, &std::fs::read(path).expect("read")) {
            Ok(true) => drop(understood.insert(target.name)),
            Ok(false) => {}
            Err(problem) => problems.push(format!("{}: {problem}", path.display())),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    understood
}

#[test]
fn files_that_once_broke_a_reader_no_longer_do() {
    hold(&kept("regressions"));
}

#[test]
fn every_reader_accepts_one_of_its_seeds() {
    let understood = hold(&kept("seeds"));
    // A record of tile geometries is read with a software device, which may be missing.
    let missing = TARGETS.iter().map(|target| target.name).find(|name| *name != "tiles" && !understood.contains(name));
    assert_eq!(missing, None, "none of its seeds is understood");
}

/// The fuzzer never reads a folder that is not named after a reader.
#[test]
fn every_folder_is_named_after_a_reader() {
    for folder in ["seeds", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(
                Target::named(&name).is_some() || !name.contains(|c: char| c.is_lowercase()),
                "{}/{name} is no reader's",
                folder.display()
            );
        }
    }
}
