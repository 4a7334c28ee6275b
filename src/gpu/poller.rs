//! The thread that polls a device while futures are pending.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// A job that polls a device until one future can continue.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job after another. The first job starts the thread; dropping the poller ends it.
#[derive(Default)]
pub(super) struct Poller(Mutex<Option<Sender<Job>>>);

impl Poller {
    /// Runs `job` on the thread. If the system cannot start a thread, runs `job` on the caller's thread and blocks it.
    pub fn run(&self, job: Job) {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = start();
        }
        let unsent = match &*thread {
            Some(sender) => sender.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        drop(thread);
        if let Some(job) = unsent {
            job();
        }
    }
}

fn start() -> Option<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let work = move || jobs.into_iter().for_each(|job| job());
    thread::Builder::new().name("meddino poll".to_owned()).spawn(work).ok().map(|_| sender)
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}
