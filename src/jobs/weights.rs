//! Which weights a job takes: those that were named, else the released ones, from the cache or from the hub.

use std::path::{Path, PathBuf};

use super::observer::Observer;
use crate::error::{Error, Result};
use crate::hub::{Hub, RELEASED};

/// The checkpoint `named`, else the path of the released one, which is downloaded if the cache does not hold it.
///
/// # Errors
/// If the released checkpoint cannot be had.
pub(super) fn or_released(named: Option<&Path>, observer: &dyn Observer) -> Result<PathBuf> {
    match named {
        Some(named) => Ok(named.into()),
        None => fetch_released(&Hub::from_env()?, observer),
    }
}

/// The path of the released checkpoint, which is downloaded from `hub` if the hub's cache does not hold it.
///
/// # Errors
/// If the checkpoint cannot be had this way; the text names the other ways.
pub fn fetch_released(hub: &Hub, observer: &dyn Observer) -> Result<PathBuf> {
    hub.fetch(&RELEASED, &mut |event| observer.download(&event)).map_err(|error| match error {
        Error::Checkpoint { source_name, problem, .. } => {
            let ways = format!(
                "Two ways to have it: download {} from {} and give it with -c FILE, or run `meddino download` once where there is a network \
                 (it is kept in {}). -c seeded:0 takes untrained weights, to try things out",
                RELEASED.file,
                hub.page(&RELEASED),
                hub.cache().display(),
            );
            Error::checkpoint(source_name, format_args!("{problem}. {ways}"))
        }
        other => other,
    })
}
