//! Finds the released checkpoint of the Hugging Face hub in the cache that `huggingface_hub` keeps, or fetches it into
//! that cache.
//!
//! The work is divided among four modules. `settings` says where the hub and the cache are. `remote` asks the hub for
//! the file's commit, SHA-256, length and download address. `transfer` downloads the bytes, and `cache` puts them in
//! their place. The layout, the locks and the environment variables are those of Python's `huggingface_hub`
//! (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>), so that each program finds the files that the
//! other has fetched.
//!
//! Nothing from the network is trusted. Redirects, lengths and names are checked, and a file gets its name only after
//! its SHA-256 matches the one that the hub promised.
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
use settings::HubSettings;
use transfer::Transfer;

/// Number of new bytes that make an attempt count as progress, so that the pauses start again from the first.
const PROGRESS: u64 = 1 << 20;

/// Returns the path of the released checkpoint, and fetches it if the cache does not hold it. The environment names the
/// hub and the cache, as for [`Hub::from_vars`]. `progress` receives the events of the fetch.
///
/// # Errors
/// As [`Hub::from_vars`] and [`Hub::fetch`].
pub fn released(progress: &mut dyn FnMut(Event)) -> Result<PathBuf> {
    Hub::from_env()?.fetch(&RELEASED, progress)
}

/// A hub and the local cache of its files.
#[derive(Clone, Debug)]
pub struct Hub {
    settings: HubSettings,
    pauses: Vec<Duration>,
}

impl Hub {
    /// Creates the hub that the environment variables name.
    ///
    /// # Errors
    /// As [`Hub::from_vars`].
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// Creates the hub from environment variables, which `var` looks up: `HF_ENDPOINT`, `HF_HOME` (else
    /// `XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`), `HF_HUB_CACHE`, `HF_TOKEN` or the file
    /// `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, `HF_HUB_DISABLE_SYMLINKS`, `HF_HUB_ETAG_TIMEOUT`, `HF_HUB_DOWNLOAD_TIMEOUT`
    /// and `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`. Each has the meaning and the default that it has in
    /// `huggingface_hub`, and the older names work as well. Proxies always come from the process's environment.
    ///
    /// # Errors
    /// If a variable has an invalid value, or there is no home folder for the cache.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        Ok(Self { settings: HubSettings::from_vars(&var)?, pauses: [1, 2, 4, 8].map(Duration::from_secs).to_vec() })
    }

    /// Sets the pauses between attempts. There is one attempt more than there are pauses.
    #[must_use]
    pub fn with_pauses(mut self, pauses: Vec<Duration>) -> Self {
        self.pauses = pauses;
        self
    }

    /// Returns the folder that holds the cached repositories.
    pub fn cache(&self) -> &Path {
        &self.settings.cache
    }

    /// Returns whether the network must not be used (`HF_HUB_OFFLINE`).
    pub fn offline(&self) -> bool {
        self.settings.offline
    }

    /// Returns the address of the repository's web page, where people can see and download its files.
    pub fn page(&self, file: &HubFile) -> String {
        format!("{}/{}", self.settings.endpoint_text(), file.repository)
    }

    /// Returns the file's path if the cache holds the file. Writes nothing and does not use the network.
    pub fn cached(&self, file: &HubFile) -> Option<PathBuf> {
        Folder::new(&self.settings, file).find().path()
    }

    /// Identifies the cached file, or returns `None` if the cache does not hold it. Reads the whole file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn identify(&self, file: &HubFile) -> Result<Option<Identity>> {
        let folder = Folder::new(&self.settings, file);
        let Some(path) = folder.find().path() else { return Ok(None) };
        let identity = folder.identify(&path);
        identity.map(Some).map_err(|e| Error::checkpoint(path.display(), Problem::from(e).within("cannot be read to its end")))
    }

    /// Returns whether the cached file has the SHA-256 that the cache records for it, as [`Identity::is_sound`] says.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn verify(&self, file: &HubFile) -> Result<Option<bool>> {
        Ok(self.identify(file)?.and_then(|identity| identity.is_sound))
    }

    /// Removes the cached file from the cache, which is necessary if it is damaged.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn forget(&self, file: &HubFile) -> Result<()> {
        let folder = Folder::new(&self.settings, file);
        let Some(path) = folder.find().path() else { return Ok(()) };
        folder.remove(&path).map_err(|e| Error::checkpoint(path.display(), Problem::from(e).within("is damaged and cannot be removed")))
    }

    /// Returns the file's path in the cache, and fetches the file if necessary. A cached file is returned without use
    /// of the network. The same holds for a file of a revision that was fetched by its name, if the cache holds no
    /// other version and no reference `main`. An interrupted download resumes where it ended: in this process after a
    /// pause, or in a later process. Processes that fetch the same file wait for each other.
    ///
    /// # Errors
    /// If the file is not cached and the hub must not be asked, cannot be reached, does not have the file, or refuses
    /// it; if the download differs from what the hub promised (length, SHA-256); or if the cache cannot be written.
    pub fn fetch(&self, file: &HubFile, progress: &mut dyn FnMut(Event)) -> Result<PathBuf> {
        let fail = |problem: Problem| Error::checkpoint(format_args!("{} of {}", file.file, file.repository), problem);
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
                ).into()));
            }
            Found::Nowhere if self.settings.offline => {
                let cache = self.settings.cache.display();
                return Err(fail(format!("is not in the cache {cache}, and HF_HUB_OFFLINE forbids to fetch it").into()));
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
            // For a long file over a bad connection, the retries start again as long as the file grows. The file cannot
            // grow forever, so the loop ends.
            if transfer.done() >= best + PROGRESS {
                best = transfer.done();
                pauses = self.pauses.iter();
            }
            let Some(&pause) = pauses.next() else {
                let attempts = self.pauses.len() + 1;
                let kept = if transfer.done() > 0 { "; what has come is kept, and the next run resumes" } else { "" };
                let text = format!("{problem} (after {attempts} attempts without progress{kept})");
                return Err(fail(problem.reworded(text)));
            };
            transfer.say(Event::Retrying { problem: problem.to_string(), pause });
            sleep(pause);
        }
    }
}
