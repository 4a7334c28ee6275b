//! How the command speaks: results on stdout, everything else on stderr. Neither stream being closed is a reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::path::Path;

use meddino::Error;
use meddino::archive::is_stream;

/// Why a command ended early.
pub enum Failure {
    /// What the user is told.
    Error(Error),
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

/// What could not be done.
pub fn error(error: impl Display) {
    line(format_args!("error: {error}"));
}

fn line(text: impl Display) {
    // If stderr is closed, there is nobody to tell.
    let _ = writeln!(stderr(), "{text}");
}

/// A result, on stdout. When nobody reads there any more, as after `head`, the work goes on all the same: its files are still wanted.
pub fn result(text: impl Display) -> Done {
    let mut out = stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::Error(Error::output("stdout", e))),
        _ => Ok(()),
    }
}

/// The path of a finished output, on stdout, unless the output itself went there.
pub fn written(path: &Path) -> Done {
    if is_stream(path) { Ok(()) } else { result(path.display()) }
}
