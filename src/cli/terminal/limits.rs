//! Limits that the machine sets: each ends in an error that names it, and not in a panic or a signal.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use meddino::jobs::MORE_THREADS;
use meddino::{Error, Result};
use rayon::{ThreadBuilder, ThreadPoolBuilder};

use super::say::warn;

/// Sets the process up: signals and, for a command that computes, threads.
///
/// # Errors
/// If not one thread can be started.
pub fn begin(computes: bool) -> Result<()> {
    ignore_file_size_signal();
    if computes { start_threads(wanted_threads()) } else { Ok(()) }
}

/// A file that reaches `ulimit -f` is an error of the write that was refused, as a full disk is. The signal's default action would end the process at once, and leave half
/// a file.
fn ignore_file_size_signal() {
    #[cfg(unix)]
    {
        // A handler that only sets a flag: nobody needs to look at it. Where no handler can be had, the default stays.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    }
}

/// As many as rayon itself would start.
fn wanted_threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n: &usize| n > 0);
    asked.unwrap_or_else(|| available_parallelism().map_or(1, usize::from))
}

/// Starts the pool that all of the library computes on, with as many of the `wanted` threads as the system gives. The results do not depend on how many there are.
///
/// The threads come first, and rayon's work for them after: its global pool can be asked for once, and a pool that lacks one thread is none.
fn start_threads(wanted: usize) -> Result<()> {
    let (hand, take) = channel::<ThreadBuilder>();
    let take = Arc::new(Mutex::new(take));
    let mut refused = None;
    let mut started = 0;
    while started < wanted && refused.is_none() {
        let take = take.clone();
        let thread = Builder::new().spawn(move || {
            let work = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
            // Without a pool there is no work, and the thread ends.
            work.into_iter().for_each(ThreadBuilder::run);
        });
        match thread {
            Ok(_) => started += 1,
            Err(problem) => refused = Some(problem),
        }
    }
    if let Some(problem) = refused {
        if started == 0 {
            return Err(Error::option("threads", format!("the system starts not one thread: {problem}; {MORE_THREADS}")));
        }
        warn(format_args!("{started} of {wanted} threads could be started, and the work takes longer: {problem}; {MORE_THREADS}"));
    }
    let spawn = |thread| hand.send(thread).map_err(|_| std::io::Error::other("a thread ended"));
    let pool = ThreadPoolBuilder::new().num_threads(started).spawn_handler(spawn).build_global();
    pool.map_err(|problem| Error::option("threads", format!("no pool of {started}: {problem}; {MORE_THREADS}")))
}
