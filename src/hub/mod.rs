//! The released checkpoint from the Hugging Face hub: found in the cache that `huggingface_hub` keeps, else fetched into it.
//!
//! A file is taken in three steps, each a file here: `settings` says where the hub and the cache are, `remote` asks the hub what
//! the file is (commit, SHA-256, length, where its bytes lie), `transfer` brings the bytes, and `cache` gives them their place. The layout,
//! the locks and the environment variables are those of Python's `huggingface_hub`
//! (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>), so that either finds what the other has fetched.
//!
//! Nothing from the network is believed: redirects, lengths and names are checked, and no file gets its name before its SHA-256 is the one
//! that the hub promised.
//!
//! ```no_run
//! use meddino::vit::model::Model;
//!
//! let path = meddino::hub::released(&mut |event| eprintln!("{event:?}"))?;
//! let model = Model::open(path)?;
//! # Ok::<(), meddino::Error>(())
//! ```

mod cache;
mod event;
mod file;
mod remote;
mod settings;
mod transfer;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Error, Problem, Result};

pub use event::Event;
pub use file::{HubFile, Identity, RELEASED};

use cache::{Folder, Found};
use event::Trouble;
use remote::Remote;
use settings::Settings;
use transfer::Transfer;

/// New bytes that make an attempt count as progress, so that the pauses start from the first again.
const PROGRESS: u64 = 1 << 20;

/// The path of the released checkpoint, which is fetched if the cache does not hold it; the environment says where hub and cache are, as
/// for [`Hub::from_vars`]. `progress` hears how far it is.
///
/// # Errors
/// As [`Hub::from_vars`] and [`Hub::fetch`].
pub fn released(progress: &mut dyn FnMut(Event)) -> Result<PathBuf> {
    Hub::from_env()?.fetch(&RELEASED, progress)
}

/// A hub and the cache of its files.
#[derive(Clone, Debug)]
pub struct Hub {
    settings: Settings,
    pauses: Vec<Duration>,
}

impl Hub {
    /// The hub that the environment names.
    ///
    /// # Errors
    /// As [`Hub::from_vars`].
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// The hub that variables name: `HF_ENDPOINT`, `HF_HOME` (else `XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`),
    /// `HF_HUB_CACHE`, `HF_TOKEN` or the file `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, `HF_HUB_DISABLE_SYMLINKS`, `HF_HUB_ETAG_TIMEOUT`, `HF_HUB_DOWNLOAD_TIMEOUT` and `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`, each with
    /// the meaning and the default that it has in `huggingface_hub`, older names included. Proxies are always those of the environment.
    ///
    /// # Errors
    /// If a variable's value makes no sense, or there is no home folder to keep the cache in.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        Ok(Self { settings: Settings::from_vars(&var)?, pauses: [1, 2, 4, 8].map(Duration::from_secs).to_vec() })
    }

    /// Other pauses between attempts; there is one attempt more than pauses.
    #[must_use]
    pub fn with_pauses(mut self, pauses: Vec<Duration>) -> Self {
        self.pauses = pauses;
        self
    }

    /// The folder that holds the cached repositories.
    pub fn cache(&self) -> &Path {
        &self.settings.cache
    }

    /// Whether the network must be left alone (`HF_HUB_OFFLINE`).
    pub fn offline(&self) -> bool {
        self.settings.offline
    }

    /// The page of a repository, where people can see and download its files.
    pub fn page(&self, file: &HubFile) -> String {
        format!("{}/{}", self.settings.endpoint_text(), file.repository)
    }

    /// The file's path in the cache, if it is there. Nothing is written and nothing is asked.
    pub fn cached(&self, file: &HubFile) -> Option<PathBuf> {
        Folder::new(&self.settings, file).find().path()
    }

    /// What the cached file is; none if there is none. Reads the whole file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn identify(&self, file: &HubFile) -> Result<Option<Identity>> {
        let folder = Folder::new(&self.settings, file);
        let Some(path) = folder.find().path() else { return Ok(None) };
        let identity = folder.identify(&path);
        identity.map(Some).map_err(|e| Error::checkpoint(path.display(), Problem::from(e).within("cannot be read to its end")))
    }

    /// Whether the cached file has the SHA-256 that is kept beside it, as [`Identity::is_sound`].
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn verify(&self, file: &HubFile) -> Result<Option<bool>> {
        Ok(self.identify(file)?.and_then(|identity| identity.is_sound))
    }

    /// Forgets the cached file, as one that is damaged must be.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self, file: &HubFile) -> Result<()> {
        let folder = Folder::new(&self.settings, file);
        let Some(path) = folder.find().path() else { return Ok(()) };
        folder.remove(&path).map_err(|e| Error::checkpoint(path.display(), Problem::from(e).within("is damaged and cannot be removed")))
    }

    /// The file's path in the cache. A file that is there is taken as it is, without a look at the network; so is the
    /// file of a revision that was fetched by its name, if there is no other version and no reference `main`. Else it
    /// is fetched: an attempt that was cut is resumed where it ended, by this process after a pause or by a later one;
    /// processes that fetch the same file wait for each other.
    ///
    /// # Errors
    /// If the file is not there and the hub must not be asked, cannot be reached, does not know the file or does not give it; if what it
    /// sends is not what it promised (length, SHA-256); if the cache cannot be written.
    pub fn fetch(&self, file: &HubFile, progress: &mut dyn FnMut(Event)) -> Result<PathBuf> {
        let fail = |problem: String| Error::checkpoint(format_args!("{} of {}", file.file, file.repository), problem);
        let folder = Folder::new(&self.settings, file);
        let found = folder.find();
        if let Found::Pinned(path) = &found {
            progress(Event::Pinned { commit: cache::commit(path) });
        }
        match found {
            Found::Here(path) | Found::Pinned(path) => return Ok(path),
            Found::Several(commits) if self.settings.offline => {
                let (cache, commits) = (self.settings.cache.display(), commits.join(", "));
                return Err(fail(format!(
                    "is in the cache {cache} in several versions, of the commits {commits}; refs/main names none of them, and HF_HUB_OFFLINE forbids to ask which \
                     is meant: name its path in snapshots"
                )));
            }
            Found::Nowhere if self.settings.offline => {
                let cache = self.settings.cache.display();
                return Err(fail(format!("is not in the cache {cache}, and HF_HUB_OFFLINE forbids to fetch it")));
            }
            Found::Several(_) | Found::Nowhere => {}
        }
        let remote = Remote::new(&self.settings, file);
        let mut transfer = Transfer::new(&folder, progress);
        let (mut pauses, mut best) = (self.pauses.iter(), 0);
        loop {
            let problem = match remote.describe().and_then(|described| transfer.run(&remote, &described)) {
                Ok(path) => return Ok(path),
                Err(Trouble::Lasting(problem)) => return Err(fail(problem)),
                Err(Trouble::Passing(problem)) => problem,
            };
            // A long file over a bad line: as long as it grows, patience is renewed. It cannot grow for ever.
            if transfer.done() >= best + PROGRESS {
                best = transfer.done();
                pauses = self.pauses.iter();
            }
            let Some(&pause) = pauses.next() else {
                let attempts = self.pauses.len() + 1;
                let kept = if transfer.done() > 0 { "; what has come is kept, and the next run resumes" } else { "" };
                return Err(fail(format!("{problem} (after {attempts} attempts without progress{kept})")));
            };
            transfer.say(Event::Retrying { problem, pause });
            sleep(pause);
        }
    }
}
