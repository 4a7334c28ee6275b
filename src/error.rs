//! Errors, by the moment at which they happen: loading a checkpoint, reading an input, running, writing.
//!
//! What a user can cause is an [`Error`]; its text names the file, tensor or parameter, what was expected, what was found, and what to do.
//! A programmer's mistake (a wrong shape inside the engine) panics.
//!
//! A parameter is named as the API names it, in backticks: "use a smaller image (`size`)". The command line prints such a name as the flag
//! (`--size`); another program shows the text as it is, or finds its own name for it.
//!
//! # What a program can do
//! The variant says at which moment something failed. For a GPU, [`GpuFailure`] says what failed, and each kind has its own remedy:
//!
//! ```
//! use meddino::backbone::{Backbone, Choice};
//! use meddino::error::GpuFailure;
//! use meddino::vit::{features::Features, features::Request, model::Model};
//! use meddino::{Error, Result, Tensor};
//!
//! /// The features of `images` from the GPU if it can give them, else from the CPU.
//! fn features(model: &Model, gpu: &Backbone, images: &Tensor) -> Result<Features> {
//!     let computed = gpu.features(images, None, &Request::default());
//!     match computed {
//!         Err(Error::Gpu { kind, .. }) => match kind {
//!             // A smaller batch or image fits: tell the caller.
//!             GpuFailure::TooLarge | GpuFailure::OutOfMemory => computed,
//!             // The driver lost the device; one that is opened again may work.
//!             GpuFailure::Lost => Backbone::new(model, Choice::Auto)?.features(images, None, &Request::default()),
//!             _ => Backbone::new(model, Choice::Cpu)?.features(images, None, &Request::default()),
//!         },
//!         other => other,
//!     }
//! }
//! ```
//!
//! An error that the system, a driver or a parser caused keeps that cause: [`std::error::Error::source`] gives it, and [`Error::io_kind`] tells a missing
//! file from a full disk. The error's own text says the cause already, so that a report needs only the first text of the chain.
//!
//! ```
//! use std::io::{self, ErrorKind};
//!
//! let error = meddino::Error::output("features.npz", io::Error::from(ErrorKind::StorageFull));
//! assert_eq!(error.io_kind(), Some(ErrorKind::StorageFull));
//! ```

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What caused an error, as a system call, a driver or a parser gave it.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Anything that a user's files, options or devices can bring about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint that cannot be read, is of no known layout, or does not hold the model it should.
    #[error("checkpoint {source_name}: {problem}")]
    #[non_exhaustive]
    Checkpoint {
        /// The file as the user named it, or `seeded:N`.
        source_name: String,
        /// What was expected, what was found, what to do.
        problem: String,
        /// What caused it, if that is an error of its own.
        source: Option<Cause>,
    },
    /// An input scan or image that cannot be read or makes no sense.
    #[error("input {source_name}: {problem}")]
    #[non_exhaustive]
    Input {
        /// The file as the user named it.
        source_name: String,
        /// What was expected, what was found, what to do.
        problem: String,
        /// What caused it, if that is an error of its own.
        source: Option<Cause>,
    },
    /// An output that cannot be written.
    #[error("output {target}: {problem}")]
    #[non_exhaustive]
    Output {
        /// The file as the user named it.
        target: String,
        /// What went wrong, what to do.
        problem: String,
        /// What caused it, if that is an error of its own.
        source: Option<Cause>,
    },
    /// A parameter whose value does not fit the model, the input or the machine.
    #[error("{option}: {problem}")]
    #[non_exhaustive]
    Option {
        /// The parameter's name, such as `precision`.
        option: String,
        /// What it may be, and what it was.
        problem: String,
        /// What caused it, if that is an error of its own.
        source: Option<Cause>,
    },
    /// Two runs that should agree and do not.
    #[error("verification failed: {problem}")]
    #[non_exhaustive]
    Mismatch {
        /// Which runs, and where they part.
        problem: String,
    },
    /// The work was cancelled by whoever asked for it.
    #[error("cancelled")]
    Cancelled,
    /// A GPU that is missing, lost, out of memory, or cannot do the work.
    #[error("gpu: {problem}")]
    #[non_exhaustive]
    Gpu {
        /// What failed, and so what a program can do about it.
        kind: GpuFailure,
        /// What happened and what to do.
        problem: String,
        /// What caused it, if that is an error of its own.
        source: Option<Cause>,
    },
}

/// What failed on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GpuFailure {
    /// There is no GPU, none that was chosen, or it cannot be opened: choose another, or use the CPU.
    NoDevice,
    /// The device lacks what this engine or this model needs, for an image of any size: choose another, or use the CPU.
    Unsupported,
    /// A tensor or a dispatch passes the device's limits: a smaller image or batch may fit.
    TooLarge,
    /// The device has no memory left: a smaller image or batch may fit, or the same one once other programs have freed theirs.
    OutOfMemory,
    /// The driver lost the device, or the device does not answer: open it again. All that was made on it is gone.
    Lost,
    /// Kernels compute wrong results on this device: use a plainer tier, a newer driver, or the CPU.
    FailedSelfTest,
    /// The driver refused a shader or a command that should be valid: a newer driver or the CPU may do it.
    Refused,
    /// A program put together what does not belong together, such as a graph that was recorded for another device.
    Misuse,
}

/// What went wrong, as a text that says all a user needs, and the error that caused it, if there is one.
///
/// Made from a text, or from an error, whose text it takes over; [`Problem::caused_by`] makes one from both.
#[derive(Debug)]
pub struct Problem {
    text: String,
    cause: Option<Cause>,
}

impl Problem {
    /// The problem that `text` describes, caused by `cause`; `text` says what `cause` says as well.
    pub fn caused_by(text: impl Display, cause: impl Into<Cause>) -> Self {
        Self { text: text.to_string(), cause: Some(cause.into()) }
    }

    /// The same problem, told after the `place` where it was found: `place: problem`.
    #[must_use]
    pub fn within(self, place: impl Display) -> Self {
        Self { text: format!("{place}: {}", self.text), cause: self.cause }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { text, cause: None }
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<fmt::Arguments<'_>> for Problem {
    fn from(text: fmt::Arguments<'_>) -> Self {
        text.to_string().into()
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::caused_by(error.to_string(), error)
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::caused_by(error.to_string(), error)
    }
}

/// The text alone.
impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        problem.text
    }
}

impl Error {
    /// A checkpoint `source_name` that cannot be used, because of `problem`.
    pub fn checkpoint(source_name: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Checkpoint { source_name: source_name.to_string(), problem: text, source: cause }
    }

    /// An input `source_name` that cannot be used, because of `problem`.
    pub fn input(source_name: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Input { source_name: source_name.to_string(), problem: text, source: cause }
    }

    /// An output `target` that cannot be written, because of `problem`.
    pub fn output(target: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Output { target: target.to_string(), problem: text, source: cause }
    }

    /// A parameter `option` whose value cannot be served, because of `problem`.
    pub fn option(option: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Option { option: option.to_string(), problem: text, source: cause }
    }

    /// Two runs that part, as `problem` says.
    pub fn mismatch(problem: impl Display) -> Self {
        Self::Mismatch { problem: problem.to_string() }
    }

    /// A GPU that cannot do the work: what `kind` says, because of `problem`.
    pub fn gpu(kind: GpuFailure, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Gpu { kind, problem: text, source: cause }
    }

    /// The kind of the system's error that caused this one, such as `NotFound`, `PermissionDenied` or `StorageFull`; `None` where none did.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let causes = std::iter::successors(self.source(), |&cause| cause.source());
        causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).next()
    }
}
