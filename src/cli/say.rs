//! How the command speaks: results on stdout, everything else on stderr. Neither stream being closed is a reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};

use meddino::Error;

use super::limits::advice;

/// Why a command ended early.
pub enum Failure {
    /// What the user is told.
    Error(Error),
    /// Nobody reads the results any more.
    StdoutClosed,
    /// Ctrl-C.
    Interrupted,
    /// Some of several cases could not be done; each was told of when it happened.
    Cases(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What commands return.
pub type Done = Result<(), Failure>;

/// How much is said.
#[derive(Clone, Copy)]
pub struct Say {
    /// No notes and no progress; warnings and errors remain.
    pub quiet: bool,
}

impl Say {
    /// Something good to know.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            line(text);
        }
    }
}

/// Something that may make the results other than expected.
pub fn warn(text: impl Display) {
    line(format_args!("warning: {text}"));
}

/// What could not be done; and what to do about it, where a limit of the system is in the way.
pub fn error(error: impl Display) {
    let error = error.to_string();
    match advice(&error) {
        Some(advice) => line(format_args!("error: {error}: {advice}")),
        None => line(format_args!("error: {error}")),
    }
}

fn line(text: impl Display) {
    // If stderr is closed, there is nobody to tell.
    let _ = writeln!(stderr(), "{text}");
}

/// A result, on stdout.
pub fn result(text: impl Display) -> Done {
    let mut out = stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::StdoutClosed,
        _ => Failure::Error(Error::output("stdout", e)),
    })
}
