//! Errors, by the moment at which they happen: loading a checkpoint, reading an input, running, writing.
//!
//! What a user can cause is an [`Error`]; its text names the file, tensor or option, what was expected, what was found, and what to do.
//! A programmer's mistake (a wrong shape inside the engine) panics.

use std::fmt::Display;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that a user's files, options or devices can bring about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint that cannot be read, is of no known layout, or does not hold the model it should.
    #[error("checkpoint {source_name}: {problem}")]
    Checkpoint {
        /// The file as the user named it, or `seeded:N`.
        source_name: String,
        /// What was expected, what was found, what to do.
        problem: String,
    },
    /// An input scan or image that cannot be read or makes no sense.
    #[error("input {source_name}: {problem}")]
    Input {
        /// The file as the user named it.
        source_name: String,
        /// What was expected, what was found, what to do.
        problem: String,
    },
    /// An output that cannot be written.
    #[error("output {target}: {problem}")]
    Output {
        /// The file as the user named it.
        target: String,
        /// What went wrong, what to do.
        problem: String,
    },
    /// An option whose value does not fit the model, the input or the machine.
    #[error("{option}: {problem}")]
    Option {
        /// The option or parameter.
        option: String,
        /// What it may be, and what it was.
        problem: String,
    },
    /// Two runs that should agree and do not.
    #[error("verification failed: {problem}")]
    Mismatch {
        /// Which runs, and where they part.
        problem: String,
    },
    /// A device that is missing, lost, out of memory, or refuses the work.
    #[error("gpu: {problem}")]
    Gpu {
        /// What happened and what to do.
        problem: String,
    },
}

impl Error {
    /// A checkpoint `source_name` that cannot be used, because of `problem`.
    pub fn checkpoint(source_name: impl Display, problem: impl Display) -> Self {
        Self::Checkpoint { source_name: source_name.to_string(), problem: problem.to_string() }
    }

    /// An input `source_name` that cannot be used, because of `problem`.
    pub fn input(source_name: impl Display, problem: impl Display) -> Self {
        Self::Input { source_name: source_name.to_string(), problem: problem.to_string() }
    }

    /// An output `target` that cannot be written, because of `problem`.
    pub fn output(target: impl Display, problem: impl Display) -> Self {
        Self::Output { target: target.to_string(), problem: problem.to_string() }
    }

    /// An `option` whose value cannot be served, because of `problem`.
    pub fn option(option: impl Display, problem: impl Display) -> Self {
        Self::Option { option: option.to_string(), problem: problem.to_string() }
    }

    /// Two runs that part, as `problem` says.
    pub fn mismatch(problem: impl Display) -> Self {
        Self::Mismatch { problem: problem.to_string() }
    }

    /// A device that cannot do the work, because of `problem`.
    pub fn gpu(problem: impl Display) -> Self {
        Self::Gpu { problem: problem.to_string() }
    }
}
