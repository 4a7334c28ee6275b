//! The checkpoint of a job: the named one, else the released one from the cache or from the hub.

use std::path::{Path, PathBuf};

use super::observer::Observer;
use crate::error::{Error, Result};
use crate::hub::{Hub, RELEASED};

/// Returns the checkpoint `named`, else the path of the released checkpoint, which is downloaded if the cache does not
/// hold it.
///
/// # Errors
/// If the released checkpoint is not in the cache and cannot be downloaded.
pub(super) fn or_released(named: Option<&Path>, observer: &dyn Observer) -> Result<PathBuf> {
    match named {
        Some(named) => Ok(named.into()),
        None => fetch_released(&Hub::from_env()?, observer),
    }
}

/// Returns the path of the released checkpoint, which is downloaded from `hub` if the hub's cache does not hold it.
///
/// # Errors
/// If the checkpoint is not in the cache and cannot be downloaded. The message names the other ways to get it.
pub fn fetch_released(hub: &Hub, observer: &dyn Observer) -> Result<PathBuf> {
    hub.fetch(&RELEASED, &mut |event| observer.download(&event)).map_err(|error| match error {
        Error::Checkpoint { source_name, problem, .. } => {
            let ways = format!(
                "Two ways to get it: download {} from {} and name it as `checkpoint`, or run `meddino download` once with network access \
                 (the cache is {}). To try things out, `checkpoint` seeded:0 uses untrained weights",
                RELEASED.file,
                hub.page(&RELEASED),
                hub.cache().display(),
            );
            Error::checkpoint(source_name, format_args!("{problem}. {ways}"))
        }
        other => other,
    })
}
