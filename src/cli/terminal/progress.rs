//! The progress of a job: a bar on a terminal, else a line every few seconds.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say::note;

/// Least time between two lines if stderr is not a terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Counts finished images.
pub struct Progress {
    quiet: bool,
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    total: usize,
    /// Number of images that were done at the start.
    before: usize,
    started: Instant,
    /// The time of the last line.
    last_line: Instant,
}

impl Progress {
    /// Starts at `before` of `total` images. Shows no bar for a single image.
    pub fn new(before: usize, total: usize, quiet: bool) -> Self {
        let bar = (total > 1 && !quiet && stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} slices, {per_sec}, {eta} left").expect("a fixed template");
            ProgressBar::new(total as u64).with_style(style).with_position(before as u64)
        });
        Self { quiet, bar, total, before, started: Instant::now(), last_line: Instant::now() }
    }

    /// Sets the number of finished images to `done`.
    pub fn reach(&mut self, done: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.last_line.elapsed() >= EVERY && done < self.total => {
                self.last_line = Instant::now();
                let rate = (done - self.before) as f64 / self.started.elapsed().as_secs_f64();
                let left = (self.total - done) as f64 / rate;
                note(self.quiet, format_args!("slice {done} of {}, {rate:.2} per second, {left:.0} s left", self.total));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    /// Removes the bar, however the job ended.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
