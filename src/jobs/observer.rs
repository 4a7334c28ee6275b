//! The observer of a running job: receives progress and warnings, and may cancel the job.

use super::case::Case;
use crate::error::{Error, Result};
use crate::hub::Event;

/// Whether a cancelled job keeps its unfinished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The file is removed.
    Discard,
    /// A feature file stays under its hidden name, and the same job resumes it. An unfinished label map is removed,
    /// because a label map cannot be resumed.
    Keep,
}

/// Receives the events of a running job, and may cancel it. Every method does nothing by default; `()` ignores all
/// events.
///
/// The job's own threads call these methods, so they should return quickly.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use meddino::jobs::{Cancel, Observer};
///
/// /// Cancels a job after ten slices.
/// #[derive(Default)]
/// struct Ten(AtomicUsize);
///
/// impl Observer for Ten {
///     fn progress(&self, done: usize, _total: usize) {
///         self.0.store(done, Ordering::Relaxed);
///     }
///
///     fn cancelled(&self) -> Option<Cancel> {
///         (self.0.load(Ordering::Relaxed) >= 10).then_some(Cancel::Keep)
///     }
/// }
/// ```
pub trait Observer: Sync {
    /// A scan starts. Until [`Observer::ends`], the job calls [`Observer::cancelled`] before each batch.
    fn begins(&self) {}

    /// `done` of the scan's `total` slices are done. The first call for a scan counts the slices of an interrupted run.
    fn progress(&self, _done: usize, _total: usize) {}

    /// The scan is done, has failed or was cancelled.
    fn ends(&self) {}

    /// A note for the user, one sentence.
    fn note(&self, _text: &str) {}

    /// A warning about something that may affect the results, one sentence.
    fn warn(&self, _text: &str) {}

    /// A case of a cohort failed. The cohort continues with the next case.
    fn failed(&self, _case: &Case, _error: &Error) {}

    /// The released checkpoint is being downloaded.
    fn download(&self, _event: &Event) {}

    /// Returns a [`Cancel`] to end the job early with [`Error::Cancelled`].
    fn cancelled(&self) -> Option<Cancel> {
        None
    }
}

impl Observer for () {}

/// Gives a warning of the job itself to its observer and to the `log` crate. Warnings of a scan, a model or a device are
/// logged where they arise.
pub(super) fn warn(observer: &dyn Observer, text: &str) {
    log::warn!("{text}");
    observer.warn(text);
}

/// Checks whether the observer cancels the job.
///
/// # Errors
/// [`Error::Cancelled`] if it does.
pub(super) fn check(observer: &dyn Observer) -> Result<()> {
    if observer.cancelled().is_some() { Err(Error::Cancelled) } else { Ok(()) }
}

/// Reports the start of a scan when created and the end when dropped, however the scan ends.
pub(super) struct UnderWay<'a>(&'a dyn Observer);

impl<'a> UnderWay<'a> {
    pub fn new(observer: &'a dyn Observer) -> Self {
        observer.begins();
        Self(observer)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.ends();
    }
}
