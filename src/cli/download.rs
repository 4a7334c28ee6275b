//! `meddino download`: downloads the released checkpoint to the cache.

use meddino::hub::{Hub, RELEASED};
use meddino::jobs::fetch_released;
use meddino::{Error, Result};

use super::terminal::Terminal;
use super::terminal::say::{result, warn};

/// Downloads the released checkpoint unless the cache holds it, checks it, and prints its path on stdout.
pub fn run(terminal: &Terminal) -> Result<()> {
    let hub = Hub::from_env()?;
    let mut path = fetch_released(&hub, terminal)?;
    let mut identity = hub.identify(&RELEASED)?;
    match identity.as_ref().and_then(|identity| identity.is_sound) {
        Some(true) => terminal.note("its SHA-256 matches the hub's"),
        None => warn(format_args!("{}: not checked, because the cache holds no SHA-256 for it", path.display())),
        Some(false) if hub.offline() => {
            let problem = "is damaged: its SHA-256 differs from the one in the cache; run `meddino download` without HF_HUB_OFFLINE to download it again";
            return Err(Error::checkpoint(path.display(), problem));
        }
        Some(false) => {
            warn(format_args!("{}: is damaged: its SHA-256 differs from the one in the cache; downloading it again", path.display()));
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
