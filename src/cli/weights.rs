//! Which weights: those that were named, else the released ones, from the cache or from the hub.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use meddino::hub::{Event, Hub, RELEASED};
use meddino::{Error, Result};

use super::say::{Done, Say, result, warn};

/// Where stderr is no terminal, a line is written this often at most.
const EVERY: Duration = Duration::from_secs(5);

/// The checkpoint that was named with `-c`, else the path of the released one.
pub fn or_released(named: Option<&Path>, say: Say) -> Result<PathBuf> {
    match named {
        Some(named) => Ok(named.into()),
        None => fetch(&Hub::from_env()?, say),
    }
}

/// `meddino download`: the released checkpoint into the cache, whole, and its path on stdout.
pub fn download(say: Say) -> Done {
    let hub = Hub::from_env()?;
    let mut path = fetch(&hub, say)?;
    let mut identity = hub.identify(&RELEASED)?;
    match identity.as_ref().and_then(|identity| identity.is_sound) {
        Some(true) => say.note("its SHA-256 is the hub's"),
        None => warn(format_args!("{}: no SHA-256 is kept beside it to check it against", path.display())),
        Some(false) if hub.offline() => {
            let problem =
                "is damaged: its SHA-256 is not the one kept beside it; run `meddino download` without HF_HUB_OFFLINE to fetch it anew";
            return Err(Error::checkpoint(path.display(), problem).into());
        }
        Some(false) => {
            warn(format_args!("{}: is damaged: its SHA-256 is not the one kept beside it; it is fetched anew", path.display()));
            hub.forget(&RELEASED)?;
            path = fetch(&hub, say)?;
            identity = hub.identify(&RELEASED)?;
        }
    }
    if let Some(identity) = identity {
        say.note(format_args!("commit {} of {}, SHA-256 {}", identity.commit, RELEASED.repository, identity.sha256));
    }
    result(path.display())
}

/// The released checkpoint. Whoever cannot have it this way is told the others.
fn fetch(hub: &Hub, say: Say) -> Result<PathBuf> {
    let mut bytes = Bytes::new(say);
    hub.fetch(&RELEASED, &mut |event| bytes.hear(&event)).map_err(|error| match error {
        Error::Checkpoint { source_name, problem, .. } => {
            let ways = format!(
                "Two ways to have it: download {} from {} and give it with -c FILE, or run `meddino download` once where there is a network \
                 (it is kept in {}). -c seeded:0 takes untrained weights, to try things out",
                RELEASED.file,
                hub.page(&RELEASED),
                hub.cache().display(),
            );
            Error::checkpoint(source_name, format_args!("{problem}. {ways}"))
        }
        other => other,
    })
}

/// Says how far a download is: a bar on a terminal, now and then a line elsewhere.
struct Bytes {
    say: Say,
    on_terminal: bool,
    bar: Option<ProgressBar>,
    /// When this attempt began, with how many bytes, and when it was last spoken of.
    began: Option<(Instant, u64, Instant)>,
}

impl Bytes {
    fn new(say: Say) -> Self {
        Self { say, on_terminal: !say.quiet && stderr().is_terminal(), bar: None, began: None }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Receiving { done, size } => self.received(*done, *size),
            Event::Retrying { problem, pause } => {
                self.end();
                self.say.note(format_args!("{problem}; trying again in {} s", pause.as_secs()));
            }
            Event::Pinned { commit } => self.say.note(format_args!(
                "{} is taken from the cache, of the commit {commit}: refs/main there names none that has it",
                RELEASED.file
            )),
            Event::Waiting => self.say.note(format_args!("another process is downloading {}; waiting for it", RELEASED.file)),
            _ => {}
        }
    }

    fn received(&mut self, done: u64, size: u64) {
        let Some((began, from, said)) = &mut self.began else {
            let kept = if done > 0 { format!(", {} of them here already", mega(done)) } else { String::new() };
            self.say.note(format_args!("downloading {} of {}: {}{kept}", RELEASED.file, RELEASED.repository, mega(size)));
            self.began = Some((Instant::now(), done, Instant::now()));
            self.bar = self.on_terminal.then(|| bar(done, size));
            return;
        };
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if said.elapsed() >= EVERY && done < size {
            *said = Instant::now();
            let rate = (done - *from) as f64 / began.elapsed().as_secs_f64();
            let left = (size - done) as f64 / rate;
            self.say.note(format_args!("{} of {}, {} a second, {left:.0} s left", mega(done), mega(size), mega(rate as u64)));
        }
        if done == size {
            self.end();
        }
    }

    /// The attempt is over: the bar goes away.
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
    // What was here before says nothing of the speed.
    bar.reset_eta();
    bar
}

/// Bytes for people.
fn mega(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
