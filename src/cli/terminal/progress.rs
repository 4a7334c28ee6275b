//! How far a job is: a bar on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say::note;

/// Where stderr is no terminal, a line is written this often at most.
const EVERY: Duration = Duration::from_secs(5);

/// Counts images as they are done.
pub struct Progress {
    quiet: bool,
    /// On a terminal only.
    bar: Option<ProgressBar>,
    total: usize,
    /// Done before this started.
    before: usize,
    started: Instant,
    /// When the last line was written.
    last_line: Instant,
}

impl Progress {
    /// Starts counting from `before` to `total`. A single image needs no counting.
    pub fn new(before: usize, total: usize, quiet: bool) -> Self {
        let bar = (total > 1 && !quiet && stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} slices, {per_sec}, {eta} left").expect("a fixed template");
            ProgressBar::new(total as u64).with_style(style).with_position(before as u64)
        });
        Self { quiet, bar, total, before, started: Instant::now(), last_line: Instant::now() }
    }

    /// So many are done by now.
    pub fn reach(&mut self, done: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.last_line.elapsed() >= EVERY && done < self.total => {
                self.last_line = Instant::now();
                let rate = (done - self.before) as f64 / self.started.elapsed().as_secs_f64();
                let left = (self.total - done) as f64 / rate;
                note(self.quiet, format_args!("slice {done} of {}, {rate:.2} a second, {left:.0} s left", self.total));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    /// The bar goes away, whatever ended the job.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
