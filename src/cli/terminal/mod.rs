//! The terminal: what is printed, how far a job is, Ctrl-C, and the limits that the machine sets.

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

/// Whoever looks at stderr, and may press Ctrl-C.
pub struct Terminal {
    /// No notes and no progress; warnings and errors remain.
    quiet: bool,
    shown: Mutex<Shown>,
}

/// What is under way.
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

    /// Something good to know.
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
        interrupt::was_asked().then_some(Cancel::Discard)
    }
}
