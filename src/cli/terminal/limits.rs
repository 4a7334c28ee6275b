//! System limits: reaching one is an error that names the limit, not a panic or a signal.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use meddino::jobs::MORE_THREADS;
use meddino::{Error, Result};
use rayon::{ThreadBuilder, ThreadPoolBuilder};

use super::say::warn;

/// Prepares the process: signals and, for a command that computes, the thread pool.
///
/// # Errors
/// If the system cannot start a single thread.
pub fn begin(computes: bool) -> Result<()> {
    ignore_file_size_signal();
    if computes { start_threads(wanted_threads()) } else { Ok(()) }
}

/// Makes a write beyond `ulimit -f` fail with an error, as on a full disk. The default action of SIGXFSZ would end the
/// process at once and leave an unfinished file.
fn ignore_file_size_signal() {
    #[cfg(unix)]
    {
        // The handler only sets a flag, which nothing reads, because the failed write reports the problem. If no
        // handler can be installed, the default action stays.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    }
}

/// Returns the number of threads that rayon would start: RAYON_NUM_THREADS, else one per core.
fn wanted_threads() -> usize {
    let configured = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n: &usize| n > 0);
    configured.unwrap_or_else(|| available_parallelism().map_or(1, usize::from))
}

/// Starts the global rayon pool with as many of the `wanted` threads as the system allows. Results do not depend on the
/// number of threads.
///
/// The threads start before the pool, because rayon builds its global pool only once, and fails if a thread is missing.
fn start_threads(wanted: usize) -> Result<()> {
    let (sender, receiver) = channel::<ThreadBuilder>();
    let receiver = Arc::new(Mutex::new(receiver));
    let mut refused = None;
    let mut started = 0;
    while started < wanted && refused.is_none() {
        let receiver = receiver.clone();
        let thread = Builder::new().spawn(move || {
            let work = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            // If no pool is built, the channel closes and the thread ends.
            work.into_iter().for_each(ThreadBuilder::run);
        });
        match thread {
            Ok(_) => started += 1,
            Err(problem) => refused = Some(problem),
        }
    }
    if let Some(problem) = refused {
        if started == 0 {
            return Err(Error::option("threads", format!("the system cannot start a thread: {problem}; {MORE_THREADS}")));
        }
        warn(format_args!("only {started} of {wanted} threads could be started, so the work takes longer: {problem}; {MORE_THREADS}"));
    }
    let spawn = |thread| sender.send(thread).map_err(|_| std::io::Error::other("a thread ended"));
    let pool = ThreadPoolBuilder::new().num_threads(started).spawn_handler(spawn).build_global();
    pool.map_err(|problem| Error::option("threads", format!("cannot start a pool of {started} threads: {problem}; {MORE_THREADS}")))
}
