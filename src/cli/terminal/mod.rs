//! The terminal: output, progress, Ctrl-C, and system limits.

mod advice;
pub mod allocator;
mod download;
pub mod flag_names;
pub mod interrupt;
pub mod limits;
mod progress;
pub mod say;

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meddino::Error;
use meddino::hub::Event;
use meddino::jobs::{Cancel, Case, Observer};

use download::Download;
use interrupt::Watch;
use progress::Progress;

/// The observer of a job that prints to stderr and cancels on Ctrl-C.
pub struct Terminal {
    /// Whether to print only warnings and errors, without notes and progress.
    quiet: bool,
    shown: Mutex<Shown>,
}

/// The displays of the job that runs.
#[derive(Default)]
struct Shown {
    watch: Option<Watch>,
    progress: Option<Progress>,
    download: Option<Download>,
}

impl Terminal {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, shown: Mutex::default() }
    }

    /// Prints a note unless the terminal is quiet.
    pub fn note(&self, text: impl Display) {
        say::note(self.quiet, text);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Terminal {
    fn begins(&self) {
        self.shown().watch = Some(Watch::new());
    }

    fn progress(&self, done: usize, total: usize) {
        self.shown().progress.get_or_insert_with(|| Progress::new(done, total, self.quiet)).reach(done);
    }

    fn ends(&self) {
        let mut shown = self.shown();
        (shown.watch, shown.progress) = (None, None);
    }

    fn note(&self, text: &str) {
        say::note(self.quiet, text);
    }

    fn warn(&self, text: &str) {
        say::warn(text);
    }

    fn failed(&self, case: &Case, error: &Error) {
        say::error(say::with_case(case, error));
    }

    fn download(&self, event: &Event) {
        self.shown().download.get_or_insert_with(|| Download::new(self.quiet)).hear(event);
    }

    fn cancelled(&self) -> Option<Cancel> {
        interrupt::was_pressed().then_some(Cancel::Discard)
    }
}
