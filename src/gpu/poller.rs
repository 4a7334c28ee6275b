//! The thread that polls a device while futures are pending.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A job that polls a device until one future can continue.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job after another. The first job starts the thread; dropping the poller waits until the
/// thread has ended. A thread that outlived its poller would still hold the device: if `main` returned meanwhile, the
/// driver would be unloaded while the thread calls it, and the process would crash.
#[derive(Default)]
pub(super) struct Poller(Mutex<Option<Running>>);

/// The thread, and the channel that brings it jobs. Without the channel, the thread ends.
struct Running {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Poller {
    /// Runs `job` on the thread. If the system cannot start a thread, runs `job` on the caller's thread and blocks it.
    pub fn run(&self, job: Job) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = start();
        }
        let unsent = match &*running {
            Some(running) => running.jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        drop(running);
        if let Some(job) = unsent {
            job();
        }
    }
}

fn start() -> Option<Running> {
    let (sender, jobs) = channel::<Job>();
    let work = move || jobs.into_iter().for_each(|job| job());
    let thread = thread::Builder::new().name("meddino poll".to_owned()).spawn(work).ok()?;
    Some(Running { jobs: sender, thread })
}

impl Drop for Poller {
    fn drop(&mut self) {
        let Some(Running { jobs, thread }) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        drop(jobs);
        // A waker that runs its task at once may drop the poller on the thread itself, which cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            // The only error is a job's panic, which the thread has printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    /// Dropping the poller waits for jobs that still hold something, as they hold a device.
    #[test]
    fn a_dropped_poller_leaves_nothing_running() {
        let (poller, device) = (Poller::default(), Arc::new(()));
        for _ in 0..2 {
            let held = Arc::clone(&device);
            poller.run(Box::new(move || {
                thread::sleep(Duration::from_millis(50));
                drop(held);
            }));
        }
        drop(poller);
        assert_eq!(Arc::strong_count(&device), 1);
    }

    /// A job may hold the last reference to its own poller.
    #[test]
    fn a_job_may_drop_its_poller() {
        let poller = Arc::new(Poller::default());
        let (sender, dropped) = channel();
        let held = Arc::clone(&poller);
        let (go, started) = channel::<()>();
        poller.run(Box::new(move || {
            started.recv().unwrap();
            drop(held);
            sender.send(()).unwrap();
        }));
        drop(poller);
        go.send(()).unwrap();
        dropped.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
