//! Prints results on stdout and everything else on stderr. A closed stream never causes a panic.

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
    /// The error to print.
    Error(Error),
    /// The list of cases that failed. Each failure was also printed when it happened.
    Cases(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    /// Fails with a list of the failed cases, if there are any.
    pub fn of_cases(report: &CohortReport) -> Result<(), Self> {
        let CohortReport { total, failed, .. } = report;
        if failed.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = failed.iter().map(|(case, error)| with_case(case, error)).collect();
        Err(Self::Cases(format!("{} of {total} cases failed:\n  {}", list.len(), list.join("\n  "))))
    }
}

/// Returns the error of `case` with the path of its scan, because an error about a flag names no file.
pub fn with_case(case: &Case, error: &Error) -> String {
    let (input, text) = (case.input.display().to_string(), error_text(error));
    if text.contains(&input) { text } else { format!("{input}: {text}") }
}

/// Prints a note unless `quiet`.
pub fn note(quiet: bool, text: impl Display) {
    if !quiet {
        line(text);
    }
}

/// Prints a warning about something that may affect the results.
pub fn warn(text: impl Display) {
    line(format_args!("warning: {}", with_flags(&text.to_string())));
}

/// Prints an error, with advice if a system limit caused the error.
pub fn error(error: impl Display) {
    let error = error.to_string();
    match advice(&error) {
        Some(advice) => line(format_args!("error: {error}: {advice}")),
        None => line(format_args!("error: {error}")),
    }
}

fn line(text: impl Display) {
    // If stderr is closed, nobody can read the line.
    let _ = writeln!(stderr(), "{}", printable(&text.to_string()));
}

/// Escapes control characters and text direction marks in `text`, because file names and file contents may hold
/// sequences that control a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_control(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// Prints a result on stdout. If the reader has closed stdout, as `head` does, this is not an error, because the job's
/// files are still wanted.
pub fn result(text: impl Display) -> Result<()> {
    let mut out = stdout().lock();
    let text = text.to_string();
    // Programs need exact names, but a terminal must not execute escape sequences in them.
    let text = if out.is_terminal() { printable(&text) } else { Cow::Borrowed(&*text) };
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::output("stdout", e)),
        _ => Ok(()),
    }
}

/// Prints the path of a finished output on stdout, unless the output itself went to stdout.
pub fn written(path: &Path) -> Result<()> {
    if is_stream(path) { Ok(()) } else { result(path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("scans/\u{e4} 1.nii:\n  two lines"), "scans/\u{e4} 1.nii:\n  two lines");
        assert_eq!(printable("a\x1b[2J\rb\u{202e}c\u{9b}1m"), "a\\u{1b}[2J\\u{d}b\\u{202e}c\\u{9b}1m");
    }
}
