//! Work on a thread of its own, so that Python's other threads run meanwhile and Ctrl-C ends the wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use meddino::hub::Event;
use meddino::jobs::{Cancel, MORE_THREADS, Observer};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::exception;

/// How often a wait looks for Ctrl-C, messages and progress.
const TICK: Duration = Duration::from_millis(50);
/// How long a wait that ends early lets the work end, so that it removes its unfinished file.
const LAST: Duration = Duration::from_millis(600);

/// Refuses to compute in a process that was forked after its parent computed: the parent's threads are not in it, so
/// that the work would never end.
///
/// # Errors
/// `RuntimeError` in such a process.
fn refuse_fork() -> PyResult<()> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    let (first, this) = (*FIRST.get_or_init(std::process::id), std::process::id());
    if first == this {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!(
        "fork: process {first} computed with meddino before process {this} was forked from it, and its threads are not here; load the model \
         in the child only, or start processes with the method `spawn` or `forkserver`"
    )))
}

/// What running work tells, and whether it is to end.
#[derive(Default)]
pub struct Events {
    is_cancelled: AtomicBool,
    done: AtomicUsize,
    total: AtomicUsize,
    notes: Mutex<Vec<String>>,
    warnings: Mutex<Vec<String>>,
}

impl Observer for Events {
    fn progress(&self, done: usize, total: usize) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    fn warn(&self, text: &str) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    fn download(&self, event: &Event) {
        match event {
            Event::Receiving { done, size } => self.progress(*done as usize, *size as usize),
            event => self.note(&event.to_string()),
        }
    }

    fn cancelled(&self) -> Option<Cancel> {
        self.is_cancelled.load(Ordering::Relaxed).then_some(Cancel::Discard)
    }
}

impl Events {
    /// Hands the messages on: notes to the logger `meddino`, warnings to `warnings.warn`, progress to `progress(done,
    /// total)`.
    fn tell(&self, py: Python<'_>, progress: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let taken = |texts: &Mutex<Vec<String>>| std::mem::take(&mut *texts.lock().unwrap_or_else(PoisonError::into_inner));
        let notes = taken(&self.notes);
        if !notes.is_empty() {
            let logger = py.import("logging")?.call_method1("getLogger", ("meddino",))?;
            notes.into_iter().try_for_each(|text| logger.call_method1("info", ("%s", text)).map(drop))?;
        }
        for text in taken(&self.warnings) {
            py.import("warnings")?.call_method1("warn", (text,))?;
        }
        match (progress, self.total.load(Ordering::Relaxed)) {
            (Some(progress), total) if total > 0 => progress.call1((self.done.load(Ordering::Relaxed), total)).map(drop),
            _ => Ok(()),
        }
    }
}

/// Work that runs, and the values that it sends.
pub struct Running<T> {
    events: Arc<Events>,
    values: Mutex<Receiver<meddino::Result<T>>>,
}

impl<T: Send + 'static> Running<T> {
    /// Starts `work`, which sends values through the channel. One value waits at a time. An error that `work` returns is
    /// its last value.
    ///
    /// # Errors
    /// `RuntimeError` if the process was forked after its parent computed, or the system refuses a thread.
    pub fn start(work: impl FnOnce(&Events, &SyncSender<meddino::Result<T>>) -> meddino::Result<()> + Send + 'static) -> PyResult<Self> {
        refuse_fork()?;
        let events = Arc::new(Events::default());
        let (sender, values) = sync_channel(1);
        let for_work = events.clone();
        let started = Builder::new().name("meddino".into()).spawn(move || {
            if let Err(error) = work(&for_work, &sender) {
                // Nobody receives what is cancelled.
                let _ = sender.send(Err(error));
            }
        });
        match started {
            Ok(_) => Ok(Self { events, values: Mutex::new(values) }),
            Err(problem) => {
                Err(PyRuntimeError::new_err(format!("threads: the system cannot start another thread: {problem}; {MORE_THREADS}")))
            }
        }
    }

    /// Starts `work`, which has one value: [`Running::value`].
    ///
    /// # Errors
    /// As [`Running::start`].
    pub fn start_one(work: impl FnOnce(&Events) -> meddino::Result<T> + Send + 'static) -> PyResult<Self> {
        Self::start(move |events, values| {
            let value = work(events)?;
            // Nobody receives what is cancelled.
            let _ = values.send(Ok(value));
            Ok(())
        })
    }

    /// Waits for the only value, as [`Running::next`] does.
    ///
    /// # Errors
    /// As [`Running::next`]; `RuntimeError` if the work panicked.
    pub fn value(&self, py: Python<'_>, progress: Option<&Bound<'_, PyAny>>) -> PyResult<T> {
        let panicked =
            || PyRuntimeError::new_err("meddino met a mistake of its own and gave up; its message is on stderr, please report it");
        self.next(py, progress)?.ok_or_else(panicked)
    }

    /// Waits for the next value; none once the work has ended. Python's other threads run meanwhile.
    ///
    /// # Errors
    /// The work's error, or what a signal's handler or `progress` raises; then the work is cancelled.
    pub fn next(&self, py: Python<'_>, progress: Option<&Bound<'_, PyAny>>) -> PyResult<Option<T>> {
        loop {
            let value = py.detach(|| self.receive(TICK));
            if let Err(error) = self.events.tell(py, progress).and_then(|()| py.check_signals()) {
                self.events.is_cancelled.store(true, Ordering::Relaxed);
                if value.is_err() {
                    let _ = py.detach(|| self.receive(LAST));
                }
                return Err(error);
            }
            match value {
                Ok(value) => return value.map(Some).map_err(|error| exception(&error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    fn receive(&self, wait: Duration) -> Result<meddino::Result<T>, RecvTimeoutError> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(wait)
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.events.is_cancelled.store(true, Ordering::Relaxed);
    }
}

/// Runs `work`, and waits for its value as [`Running::next`] does.
///
/// # Errors
/// As [`Running::start`] and [`Running::value`].
pub fn run<T: Send + 'static>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Events) -> meddino::Result<T> + Send + 'static,
) -> PyResult<T> {
    Running::start_one(work)?.value(py, progress)
}
