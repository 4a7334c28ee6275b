//! What a command reads, so that nothing it writes takes the place of it.

use std::path::Path;

use meddino::Result;
use meddino::ct::files_of;
use meddino::hub::{Hub, RELEASED};
use meddino::output::Targets;

/// Targets that are none of the files of `scan`, if there is one, nor of `checkpoint`: a file, `seeded:N`, or, if none is named, the released one.
pub fn guard(overwrite: bool, scan: Option<&Path>, checkpoint: Option<&Path>) -> Result<Targets> {
    let mut targets = Targets::new(overwrite);
    if let Some(scan) = scan {
        targets.reads("the input", files_of(scan)?);
    }
    match checkpoint {
        Some(path) => targets.reads("the checkpoint", [path, &path.with_file_name("config.json")]),
        None => targets.reads("the checkpoint", Hub::from_env().ok().and_then(|hub| hub.cached(&RELEASED))),
    }
    Ok(targets)
}
