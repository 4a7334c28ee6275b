//! How the command speaks: results on stdout, everything else on stderr. Neither stream being closed is a reason to panic.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::Path;

use meddino::archive::is_stream;
use meddino::jobs::{Case, CohortReport};
use meddino::{Error, Result};

use super::advice::advice;
use super::flag_names::{error_text, with_flags};

/// Why a command ended early.
pub enum Failure {
    /// What the user is told.
    Error(Error),
    /// Some of several cases could not be done; each was told of when it happened.
    Cases(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    /// What a run over many cases comes to.
    pub fn of_cases(report: &CohortReport) -> Result<(), Self> {
        let CohortReport { total, failed, .. } = report;
        if failed.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = failed.iter().map(|(case, error)| with_case(case, error)).collect();
        Err(Self::Cases(format!("{} of {total} cases failed:\n  {}", list.len(), list.join("\n  "))))
    }
}

/// The error of `case` with its scan, because an error about a flag names no file.
pub fn with_case(case: &Case, error: &Error) -> String {
    let (input, text) = (case.input.display().to_string(), error_text(error));
    if text.contains(&input) { text } else { format!("{input}: {text}") }
}

/// Something good to know, unless the user wants it `quiet`.
pub fn note(quiet: bool, text: impl Display) {
    if !quiet {
        line(text);
    }
}

/// Something that may make the results other than expected.
pub fn warn(text: impl Display) {
    line(format_args!("warning: {}", with_flags(&text.to_string())));
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
    let _ = writeln!(stderr(), "{}", printable(&text.to_string()));
}

/// `text` without what would steer a terminal: names of files and texts out of them may hold escape sequences, or turn the direction of what follows.
fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if steers(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// A result, on stdout. When nobody reads there any more, as after `head`, the work goes on all the same: its files are still wanted.
pub fn result(text: impl Display) -> Result<()> {
    let mut out = stdout().lock();
    let text = text.to_string();
    // A program that reads this wants names as they are; a terminal must not obey them.
    let text = if out.is_terminal() { printable(&text) } else { Cow::Borrowed(&*text) };
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::output("stdout", e)),
        _ => Ok(()),
    }
}

/// The path of a finished output, on stdout, unless the output itself went there.
pub fn written(path: &Path) -> Result<()> {
    if is_stream(path) { Ok(()) } else { result(path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_that_it_would_obey() {
        assert_eq!(printable("scans/\u{e4} 1.nii:\n  two lines"), "scans/\u{e4} 1.nii:\n  two lines");
        assert_eq!(printable("a\x1b[2J\rb\u{202e}c\u{9b}1m"), "a\\u{1b}[2J\\u{d}b\\u{202e}c\\u{9b}1m");
    }
}
