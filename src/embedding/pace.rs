//! Chooses how much of a pass to record at a time, from the speed of the device.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use web_time::Instant;

use crate::gpu::wgpu;

/// The work of the first piece on a device of unknown speed, in units of [`crate::graph::Cost::work`]. A slow GPU takes
/// some milliseconds for it.
const FIRST_WORK: u64 = 200_000_000;

/// How much of a pass is recorded, in dispatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassProgress {
    /// Dispatches recorded so far.
    pub done: usize,
    /// All dispatches of the pass.
    pub of: usize,
}

impl PassProgress {
    /// Returns whether the whole pass is recorded. The tokens are ready once the device has run what was submitted.
    pub fn is_finished(self) -> bool {
        self.done == self.of
    }

    /// Returns the share that is recorded, from 0 to 1.
    pub fn share(self) -> f32 {
        self.done as f32 / self.of as f32
    }
}

/// The pieces in which a pass is recorded, and the speed at which the device runs them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Work per second, if it was measured when the weights were loaded. Otherwise the pieces are timed.
    known: Option<f64>,
    /// Work per second in the pieces before the last one, if the device is known to have finished one.
    earlier: Option<f64>,
    last: Option<Piece>,
}

/// Dispatches that were recorded together.
#[derive(Debug)]
struct Piece {
    work: u64,
    recorded: Instant,
    finished: Arc<OnceLock<Instant>>,
}

impl Piece {
    /// Returns the work per second, once the device is known to have finished.
    fn speed(&self) -> Option<f64> {
        let took = self.finished.get()?.duration_since(self.recorded).max(Duration::from_micros(50));
        Some(self.work as f64 / took.as_secs_f64())
    }
}

impl Pace {
    /// Makes a pace of no pieces. `known` is the device's speed, if it was measured.
    pub fn new(known: Option<f64>) -> Self {
        Self { known, ..Self::default() }
    }

    /// Notes that `work` was recorded into `encoder`, and registers a callback for when the device has finished the
    /// submission.
    pub fn begin(&mut self, encoder: &wgpu::CommandEncoder, work: u64) {
        self.earlier = self.measured();
        let finished = Arc::<OnceLock<Instant>>::default();
        let clock = Arc::clone(&finished);
        encoder.on_submitted_work_done(move || {
            // The callback runs once per piece.
            let _ = clock.set(Instant::now());
        });
        self.last = Some(Piece { work, recorded: Instant::now(), finished });
    }

    /// Returns whether the device is still computing the last piece, as of the last poll.
    pub fn is_busy(&self) -> bool {
        self.last.as_ref().is_some_and(|piece| piece.finished.get().is_none())
    }

    /// Returns the work per second: the known speed, else that of the last piece that the device has finished.
    pub fn speed(&self) -> Option<f64> {
        self.known.or_else(|| self.measured())
    }

    /// Returns the work that fits into `budget`, or a first guess while the speed is unknown.
    pub fn work_in(&self, budget: Duration) -> u64 {
        self.speed().map_or(FIRST_WORK, |speed| (speed * budget.as_secs_f64()) as u64)
    }

    fn measured(&self) -> Option<f64> {
        self.last.as_ref().and_then(Piece::speed).or(self.earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(work: u64, millis: Option<u64>) -> Piece {
        let recorded = Instant::now();
        let finished = Arc::<OnceLock<Instant>>::default();
        if let Some(millis) = millis {
            finished.set(recorded + Duration::from_millis(millis)).expect("not set before");
        }
        Piece { work, recorded, finished }
    }

    #[test]
    fn the_next_piece_is_as_large_as_the_last_one_shows() {
        let budget = Duration::from_millis(8);
        let mut pace = Pace::default();
        assert!(!pace.is_busy());
        assert_eq!(pace.work_in(budget), FIRST_WORK);
        pace.last = Some(piece(1_000_000, None));
        assert!(pace.is_busy());
        assert_eq!(pace.work_in(budget), FIRST_WORK, "nothing is known before a piece is finished");
        pace.last = Some(piece(1_000_000, Some(4)));
        assert!(!pace.is_busy());
        assert_eq!(pace.work_in(budget), 2_000_000);
        pace.earlier = pace.measured();
        pace.last = Some(piece(9_000_000, None));
        assert_eq!(pace.work_in(budget), 2_000_000, "the piece before counts until this one is finished");
    }
}
