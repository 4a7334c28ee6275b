//! The progress of a download.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use meddino::hub::{Event, RELEASED};

use super::say::note;

/// Least time between two lines if stderr is not a terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of a download: as a bar on a terminal, else as a line every few seconds.
pub struct Download {
    quiet: bool,
    on_terminal: bool,
    bar: Option<ProgressBar>,
    /// The start of this attempt, the number of bytes at the start, and the time of the last line.
    began: Option<(Instant, u64, Instant)>,
}

impl Download {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, on_terminal: !quiet && stderr().is_terminal(), bar: None, began: None }
    }

    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Receiving { done, size } => self.received(*done, *size),
            Event::Retrying { .. } => {
                self.end();
                note(self.quiet, format_args!("{event}"));
            }
            Event::Pinned { .. } | Event::Waiting => note(self.quiet, format_args!("{event}")),
        }
    }

    fn received(&mut self, done: u64, size: u64) {
        let Some((began, from, last_line)) = &mut self.began else {
            let resumed = if done > 0 { format!(", {} of it already here", mega(done)) } else { String::new() };
            note(self.quiet, format_args!("downloading {} of {}: {}{resumed}", RELEASED.file, RELEASED.repository, mega(size)));
            self.began = Some((Instant::now(), done, Instant::now()));
            self.bar = self.on_terminal.then(|| bar(done, size));
            return;
        };
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if last_line.elapsed() >= EVERY && done < size {
            *last_line = Instant::now();
            let rate = (done - *from) as f64 / began.elapsed().as_secs_f64();
            let left = (size - done) as f64 / rate;
            note(self.quiet, format_args!("{} of {}, {} per second, {left:.0} s left", mega(done), mega(size), mega(rate as u64)));
        }
        if done == size {
            self.end();
        }
    }

    /// Ends the attempt and removes the bar.
    fn end(&mut self) {
        self.began = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(done: u64, size: u64) -> ProgressBar {
    let template = "{bar:40} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("a fixed template");
    let bar = ProgressBar::new(size).with_style(style).with_position(done);
    // Bytes of an earlier attempt must not count in the speed.
    bar.reset_eta();
    bar
}

/// Formats bytes as MB.
fn mega(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
