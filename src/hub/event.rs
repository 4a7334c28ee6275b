//! Progress events and errors of a fetch.

use std::fmt;
use std::time::Duration;

use super::file::RELEASED;
use crate::error::Problem;

/// A progress event of a fetch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The file is taken from the cache, in a revision that the cache's reference `main` does not name.
    Pinned {
        /// The commit of the file.
        commit: String,
    },
    /// Another process is fetching the same file. This process waits until the other one is done.
    Waiting,
    /// The number of bytes of the file that are on the disk. The first such event of an attempt reports the starting
    /// point, which is above 0 if the attempt resumes an earlier one.
    Receiving {
        /// Bytes on the disk.
        done: u64,
        /// Size of the whole file in bytes.
        size: u64,
    },
    /// The attempt failed. The next attempt follows after a pause.
    Retrying {
        /// Why the attempt failed.
        problem: String,
        /// Time until the next attempt.
        pause: Duration,
    },
}

/// Tells the event in a sentence, of the released checkpoint.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = RELEASED.file;
        match self {
            Self::Pinned { commit } => {
                write!(f, "using {file} of commit {commit} from the cache, because the cache's refs/main names no commit that has it")
            }
            Self::Waiting => write!(f, "another process is downloading {file}; waiting for it"),
            Self::Receiving { done, size } => write!(f, "{done} of {size} bytes of {file} are here"),
            Self::Retrying { problem, pause } => write!(f, "{problem}; retrying in {} s", pause.as_secs()),
        }
    }
}

/// Why an attempt failed.
pub(super) enum Trouble {
    /// A temporary failure, such as a lost connection or a busy server. A retry may succeed.
    Passing(Problem),
    /// A permanent failure. A retry cannot succeed.
    Lasting(Problem),
}
