//! `meddino download`: the released checkpoint into the cache.

use meddino::hub::{Hub, RELEASED};
use meddino::jobs::fetch_released;
use meddino::{Error, Result};

use super::terminal::Terminal;
use super::terminal::say::{result, warn};

/// Puts the released checkpoint into the cache, whole, and prints its path on stdout.
pub fn run(terminal: &Terminal) -> Result<()> {
    let hub = Hub::from_env()?;
    let mut path = fetch_released(&hub, terminal)?;
    let mut identity = hub.identify(&RELEASED)?;
    match identity.as_ref().and_then(|identity| identity.is_sound) {
        Some(true) => terminal.note("its SHA-256 is the hub's"),
        None => warn(format_args!("{}: no SHA-256 is kept beside it to check it against", path.display())),
        Some(false) if hub.offline() => {
            let problem =
                "is damaged: its SHA-256 is not the one kept beside it; run `meddino download` without HF_HUB_OFFLINE to fetch it anew";
            return Err(Error::checkpoint(path.display(), problem));
        }
        Some(false) => {
            warn(format_args!("{}: is damaged: its SHA-256 is not the one kept beside it; it is fetched anew", path.display()));
            hub.forget(&RELEASED)?;
            path = fetch_released(&hub, terminal)?;
            identity = hub.identify(&RELEASED)?;
        }
    }
    if let Some(identity) = identity {
        terminal.note(format_args!("commit {} of {}, SHA-256 {}", identity.commit, RELEASED.repository, identity.sha256));
    }
    result(path.display())
}
