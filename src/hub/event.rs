//! What happens while a file is fetched.

use std::time::Duration;

/// How far a fetch is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The file is taken from the cache, of a revision that the cache's reference `main` does not name.
    Pinned {
        /// The commit whose file is taken.
        commit: String,
    },
    /// Another process is fetching the same file; this one waits until it is done.
    Waiting,
    /// So many bytes of the file are on the disk. The first such event of an attempt says where it starts: not at 0 if it resumes.
    Receiving {
        /// Bytes that are here.
        done: u64,
        /// Bytes of the whole file.
        size: u64,
    },
    /// The attempt failed; the next one comes after a pause.
    Retrying {
        /// Why it failed.
        problem: String,
        /// How long it waits.
        pause: Duration,
    },
}

/// Why an attempt failed.
pub(super) enum Trouble {
    /// A connection cut, a server busy: another attempt may succeed.
    Passing(String),
    /// Nothing that patience helps against.
    Lasting(String),
}
