//! Keeps the window from closing while another thread uses the device. A driver that is unloaded at the end of the
//! process while a thread still compiles shaders or drops a device can crash it.

use std::sync::{Arc, PoisonError, RwLock};

/// Whether threads may begin work on the device. Clones are one gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<RwLock<bool>>);

impl Gate {
    /// Makes an open gate.
    pub fn new() -> Self {
        Self(Arc::new(RwLock::new(true)))
    }

    /// Does `work` on the device, which the window waits for before it closes. Whatever holds a handle of the device must
    /// be dropped by `work`. Returns `None` if the window is closing. Then `work` is neither done nor dropped, because the
    /// last handle of a device calls its driver.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let is_open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if *is_open {
            return Some(work());
        }
        std::mem::forget(work);
        None
    }

    /// Waits until all work that has begun is done, and lets no other begin.
    pub fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn closing_waits_for_what_has_begun_and_nothing_begins_afterwards() {
        let (gate, done) = (Gate::new(), Arc::new(AtomicBool::new(false)));
        let (began, begun) = channel();
        let worker = thread::spawn({
            let (gate, done) = (gate.clone(), Arc::clone(&done));
            move || {
                gate.enter(|| {
                    began.send(()).expect("heard");
                    thread::sleep(Duration::from_millis(50));
                    done.store(true, Ordering::SeqCst);
                })
            }
        });
        begun.recv().expect("it begins");
        gate.close();
        assert!(done.load(Ordering::SeqCst), "closed while work was under way");
        assert_eq!(worker.join().expect("no panic"), Some(()));
        assert_eq!(gate.enter(|| 1), None);
    }
}
