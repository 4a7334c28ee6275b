//! Graphs prepared on a device, kept for the sizes seen lately.

use async_lock::{Mutex, MutexGuard};

use super::blocking::Boxed;
use crate::error::Result;

/// How many are kept: enough for a scan whose slices and last, smaller batch alternate with another size.
const KEPT: usize = 4;

/// What was prepared, by its size or whatever else it was prepared for, the most recently used last.
#[derive(Debug)]
pub(super) struct Prepared<K, P>(Mutex<Vec<(K, P)>>);

/// All that was prepared, locked, with the one in use last. Its buffers belong to one run at a time, so that another run waits for the lock.
pub(super) struct InUse<'a, K, P>(MutexGuard<'a, Vec<(K, P)>>);

impl<K, P> Default for Prepared<K, P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + PartialEq, P> Prepared<K, P> {
    /// Forgets all, for tests that want to see one prepared.
    #[cfg(test)]
    pub fn forget(&self) {
        self.0.lock_blocking().clear();
    }

    /// What was prepared for `key`; where it is not there it is planned, and then prepared on the device. Old ones may have to go for it, but
    /// not for what cannot even be planned.
    ///
    /// # Errors
    /// Whatever `plan` says; and whatever `prepare` says, when nothing else that was prepared takes up memory.
    pub async fn get<'a, R>(
        &'a self,
        key: K,
        plan: impl Fn(K) -> Result<R>,
        prepare: impl Fn(K, R) -> Boxed<'a, Result<P>>,
    ) -> Result<InUse<'a, K, P>> {
        let mut kept = self.0.lock().await;
        if let Some(at) = kept.iter().position(|(other, _)| *other == key) {
            kept[at..].rotate_left(1);
            return Ok(InUse(kept));
        }
        let planned = plan(key.clone())?;
        if kept.len() == KEPT {
            kept.remove(0);
        }
        let prepared = match prepare(key.clone(), planned).await {
            Err(_) if !kept.is_empty() => {
                // Other sizes may be what fills the device.
                kept.clear();
                prepare(key.clone(), plan(key.clone())?).await
            }
            first => first,
        }?;
        kept.push((key, prepared));
        Ok(InUse(kept))
    }
}

impl<K, P> std::ops::Deref for InUse<'_, K, P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0.last().expect("what is in use was prepared").1
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::{Error, GpuFailure};
    use crate::gpu::block_on;

    #[expect(clippy::unnecessary_wraps, reason = "what a plan takes and gives")]
    fn planned(_: usize) -> Result<()> {
        Ok(())
    }

    fn ready<'a>(outcome: Result<usize>) -> Boxed<'a, Result<usize>> {
        Box::pin(std::future::ready(outcome))
    }

    #[test]
    fn a_request_that_cannot_be_planned_costs_nothing_that_was_prepared() {
        let all = Prepared::default();
        let kept = |all: &Prepared<usize, usize>| all.0.lock_blocking().iter().map(|(key, _)| *key).collect::<Vec<_>>();
        let prepare = |key: usize, ()| ready(Ok(key));
        (1..=KEPT).for_each(|key| drop(block_on(all.get(key, planned, prepare)).unwrap()));
        let refused = |_: usize| Err::<(), _>(Error::option("layers", "there is no block 99"));
        let unplanned = |_: usize, ()| -> Boxed<'_, Result<usize>> { panic!("it was not planned") };
        for _ in 0..2 {
            assert!(block_on(all.get(99, refused, unplanned)).is_err());
            assert_eq!(kept(&all), [1, 2, 3, 4], "all are kept, though there was no room for another");
        }
        assert_eq!(*block_on(all.get(2, refused, unplanned)).unwrap(), 2);
        assert_eq!(kept(&all), [1, 3, 4, 2]);
    }

    #[test]
    fn the_oldest_goes_first() {
        let (all, prepared) = (Prepared::default(), RefCell::new(Vec::new()));
        let want = |key: usize| {
            let prepare = |key: usize, ()| {
                prepared.borrow_mut().push(key);
                ready(Ok(10 * key))
            };
            assert_eq!(*block_on(all.get(key, planned, prepare)).unwrap(), 10 * key);
        };
        [1, 2, 1, 3, 4, 1, 5, 1, 3].into_iter().for_each(want);
        assert_eq!(prepared.take(), [1, 2, 3, 4, 5]);
        want(2);
        assert_eq!(prepared.take(), [2], "the fifth drove it out");
        [5, 1, 3, 2].into_iter().for_each(want);
        assert_eq!(prepared.take(), [0; 0], "4 went for 2");
    }

    #[test]
    fn where_memory_is_short_the_others_go() {
        let all = Prepared::default();
        let full = || Error::gpu(GpuFailure::OutOfMemory, "full");
        let tight = |free: usize| move |key: usize, ()| ready(if key <= free { Ok(key) } else { Err(full()) });
        block_on(all.get(1, planned, tight(1))).unwrap();
        assert!(block_on(all.get(2, planned, tight(1))).is_err());
        assert!(all.0.lock_blocking().is_empty(), "what was in the way is gone");
        // Once they are gone there is room.
        let tries = RefCell::new(0);
        block_on(all.get(1, planned, tight(1))).unwrap();
        let second_time = |key: usize, ()| {
            *tries.borrow_mut() += 1;
            ready(if *tries.borrow() == 2 { Ok(key) } else { Err(full()) })
        };
        assert_eq!(*block_on(all.get(3, planned, second_time)).unwrap(), 3);
    }
}
