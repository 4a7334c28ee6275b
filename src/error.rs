//! Errors, grouped by the operation that failed: loading a checkpoint, reading an input, running, writing.
//!
//! A failure that a user can cause is an [`Error`]. Its text names the file, tensor or parameter, what was expected,
//! what was found, and what to do. A programmer's mistake (a wrong shape inside the engine) panics.
//!
//! A text names a parameter as the API does, in backticks: "use a smaller image (`size`)". The command line prints such
//! a name as its flag (`--size`); another program shows the text unchanged, or replaces the name with its own.
//!
//! # How a program can react
//! The variant tells which operation failed. For a GPU, [`GpuFailure`] tells what failed, and each kind has its own
//! remedy:
//!
//! ```
//! use meddino::backbone::{Backbone, Choice};
//! use meddino::error::GpuFailure;
//! use meddino::vit::{features::Features, features::Request, model::Model};
//! use meddino::{Error, Result, Tensor};
//!
//! /// Computes the features of `images` on the GPU if it can, else on the CPU.
//! fn features(model: &Model, gpu: &Backbone, images: &Tensor) -> Result<Features> {
//!     let computed = gpu.features(images, None, &Request::default());
//!     match computed {
//!         Err(Error::Gpu { kind, .. }) => match kind {
//!             // A smaller batch or image may fit, which only the caller can decide.
//!             GpuFailure::TooLarge | GpuFailure::OutOfMemory => computed,
//!             // The driver lost the device. Opening the device again may help.
//!             GpuFailure::Lost => Backbone::new(model, Choice::Auto)?.features(images, None, &Request::default()),
//!             _ => Backbone::new(model, Choice::Cpu)?.features(images, None, &Request::default()),
//!         },
//!         computed => computed,
//!     }
//! }
//! ```
//!
//! An error that the system, a driver or a parser caused keeps its cause. [`std::error::Error::source`] returns the
//! cause, and [`Error::io_kind`] tells a missing file from a full disk. The error's own text already includes the text
//! of its cause, so that a report needs only the first text of the chain.
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

/// The cause of an error, as a system call, a driver or a parser reported it.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failure that a user's files, options or devices can cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint cannot be read, has an unknown layout, or does not hold the expected model.
    #[error("checkpoint {source_name}: {problem}")]
    #[non_exhaustive]
    Checkpoint {
        /// The file as the user named it, or `seeded:N`.
        source_name: String,
        /// What was expected, what was found, what to do.
        problem: String,
        /// The cause, if another error caused this one.
        source: Option<Cause>,
    },
    /// An input scan or image cannot be read, or its contents are invalid.
    #[error("input {source_name}: {problem}")]
    #[non_exhaustive]
    Input {
        /// The file as the user named it.
        source_name: String,
        /// What was expected, what was found, what to do.
        problem: String,
        /// The cause, if another error caused this one.
        source: Option<Cause>,
    },
    /// An output cannot be written.
    #[error("output {target}: {problem}")]
    #[non_exhaustive]
    Output {
        /// The file as the user named it.
        target: String,
        /// What went wrong, what to do.
        problem: String,
        /// The cause, if another error caused this one.
        source: Option<Cause>,
    },
    /// A parameter has a value that does not fit the model, the input or the machine.
    #[error("{option}: {problem}")]
    #[non_exhaustive]
    Option {
        /// The parameter's name, such as `precision`.
        option: String,
        /// Which values are allowed, which value was found, what to do.
        problem: String,
        /// The cause, if another error caused this one.
        source: Option<Cause>,
    },
    /// Two runs that should agree differ.
    #[error("verification failed: {problem}")]
    #[non_exhaustive]
    Mismatch {
        /// Which runs were compared, and where they first differ.
        problem: String,
    },
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
    /// A GPU is missing, lost or out of memory, or cannot do the work.
    #[error("gpu: {problem}")]
    #[non_exhaustive]
    Gpu {
        /// What failed. Each kind has its own remedy.
        kind: GpuFailure,
        /// What happened and what to do.
        problem: String,
        /// The cause, if another error caused this one.
        source: Option<Cause>,
    },
}

/// The kind of failure on a GPU, with its remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GpuFailure {
    /// The machine has no GPU or not the chosen one, or the GPU cannot be opened. Choose another, or use the CPU.
    NoDevice,
    /// The device lacks what this engine or this model needs for an image of any size. Choose another, or use the CPU.
    Unsupported,
    /// A tensor or a dispatch exceeds the device's limits. A smaller image or batch may fit.
    TooLarge,
    /// The device has no memory left. A smaller image or batch may fit, or the same one once other programs free
    /// memory.
    OutOfMemory,
    /// The driver lost the device, or the device does not answer. Open the device again; all its buffers are gone.
    Lost,
    /// Kernels compute wrong results on this device. Use a plainer tier, a newer driver, or the CPU.
    FailedSelfTest,
    /// The driver refused a shader or a command that should be valid. Try a newer driver, or the CPU.
    Refused,
    /// A program combined objects that do not belong together, such as a device and a graph recorded for another
    /// device.
    Misuse,
}

/// The text of an error, which says all that a user needs, and the error that caused it, if there is one.
///
/// A `Problem` converts from a text, or from an error, whose text it copies. [`Problem::caused_by`] takes both.
#[derive(Debug)]
pub struct Problem {
    text: String,
    cause: Option<Cause>,
}

impl Problem {
    /// Makes a problem from `text` and `cause`. `text` must include the text of `cause`.
    pub fn caused_by(text: impl Display, cause: impl Into<Cause>) -> Self {
        Self { text: text.to_string(), cause: Some(cause.into()) }
    }

    /// Replaces the text, and keeps the cause. `text` must include the text of the problem.
    #[must_use]
    pub fn reworded(self, text: impl Display) -> Self {
        Self { text: text.to_string(), cause: self.cause }
    }

    /// Puts `place`, where the problem was found, before its text: `place: problem`.
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

impl Error {
    /// Returns the error for a checkpoint `source_name` that cannot be used because of `problem`.
    pub fn checkpoint(source_name: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Checkpoint { source_name: source_name.to_string(), problem: text, source: cause }
    }

    /// Returns the error for an input `source_name` that cannot be used because of `problem`.
    pub fn input(source_name: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Input { source_name: source_name.to_string(), problem: text, source: cause }
    }

    /// Returns the error for an output `target` that cannot be written because of `problem`.
    pub fn output(target: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Output { target: target.to_string(), problem: text, source: cause }
    }

    /// Returns the error for a parameter `option` whose value cannot be used because of `problem`.
    pub fn option(option: impl Display, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Option { option: option.to_string(), problem: text, source: cause }
    }

    /// Returns the error for two runs that differ; `problem` names the runs and where they differ.
    pub fn mismatch(problem: impl Display) -> Self {
        Self::Mismatch { problem: problem.to_string() }
    }

    /// Returns the error for a GPU that failed with `kind` because of `problem`.
    pub fn gpu(kind: GpuFailure, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        Self::Gpu { kind, problem: text, source: cause }
    }

    /// Returns the kind of the I/O error that caused this one, such as `NotFound`, `PermissionDenied` or `StorageFull`.
    /// `None` if no I/O error caused it.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let causes = std::iter::successors(self.source(), |&cause| cause.source());
        causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).next()
    }
}
