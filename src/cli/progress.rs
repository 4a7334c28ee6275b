//! How far a job is: a bar on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say::Say;

/// Where stderr is no terminal, a line is written this often at most.
const EVERY: Duration = Duration::from_secs(5);

/// Counts images as they are done.
pub struct Progress {
    say: Say,
    /// On a terminal only.
    bar: Option<ProgressBar>,
    total: usize,
    done: usize,
    /// Done before this started.
    before: usize,
    started: Instant,
    said: Instant,
}

impl Progress {
    /// Starts counting from `before` to `total`. A single image needs no counting.
    pub fn new(before: usize, total: usize, say: Say) -> Self {
        let bar = (total > 1 && !say.quiet && stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} slices, {per_sec}, {eta} left").expect("a fixed template");
            ProgressBar::new(total as u64).with_style(style).with_position(before as u64)
        });
        Self { say, bar, total, done: before, before, started: Instant::now(), said: Instant::now() }
    }

    /// So many more are done.
    pub fn step(&mut self, images: usize) {
        self.done += images;
        match &self.bar {
            Some(bar) => bar.inc(images as u64),
            None if self.said.elapsed() >= EVERY && self.done < self.total => {
                self.said = Instant::now();
                let rate = (self.done - self.before) as f64 / self.started.elapsed().as_secs_f64();
                let left = (self.total - self.done) as f64 / rate;
                self.say.note(format_args!("slice {} of {}, {rate:.2} a second, {left:.0} s left", self.done, self.total));
            }
            None => {}
        }
    }

    /// How long it has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
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
