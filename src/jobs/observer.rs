//! What a guest hears of a job while the job runs, and how the guest stops it.

use super::case::Case;
use crate::error::{Error, Result};
use crate::hub::Event;

/// What becomes of the unfinished file of a job that its guest cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The file is removed.
    Discard,
    /// A file of features stays under its hidden name, and the same job goes on from there. An unfinished label map is removed,
    /// because a label map is always begun anew.
    Keep,
}

/// A guest that hears of a job while the job runs, and may cancel it. Every method does nothing unless the guest implements it; `()` is a
/// guest that does not listen.
///
/// Methods are called from the threads of the job, so that they should return soon.
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
    /// A scan begins: until [`Observer::ends`] the job asks [`Observer::cancelled`] before each batch.
    fn begins(&self) {}

    /// `done` of the scan's `total` slices are done. The first call of a scan says how many were there before it began.
    fn progress(&self, _done: usize, _total: usize) {}

    /// The scan that began is done, has failed or was cancelled.
    fn ends(&self) {}

    /// Something good to know, one sentence.
    fn note(&self, _text: &str) {}

    /// Something that may make the results other than expected, one sentence.
    fn warn(&self, _text: &str) {}

    /// A case of a cohort failed; the cohort goes on with the next case.
    fn failed(&self, _case: &Case, _error: &Error) {}

    /// The released checkpoint is being downloaded.
    fn download(&self, _event: &Event) {}

    /// Whether the job should end early, with [`Error::Cancelled`], and what becomes of its unfinished file then.
    fn cancelled(&self) -> Option<Cancel> {
        None
    }
}

impl Observer for () {}

/// # Errors
/// [`Error::Cancelled`] if the guest wants the job to end.
pub(super) fn check(observer: &dyn Observer) -> Result<()> {
    if observer.cancelled().is_some() { Err(Error::Cancelled) } else { Ok(()) }
}

/// While it lives, a scan is under way: the observer hears the begin and the end, however the scan ends.
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
