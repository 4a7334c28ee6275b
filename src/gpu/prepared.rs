//! A cache of the graphs prepared on a device for the most recent sizes.

use async_lock::{Mutex, MutexGuard};

use super::blocking::Boxed;
use crate::error::Result;

/// The most entries in the cache. A scan needs two, for its batches and its smaller last batch; the rest serves other
/// sizes that alternate with the scan's.
const KEPT: usize = 4;

/// The prepared graphs by key, such as the image size. The most recently used one is last.
#[derive(Debug)]
pub(super) struct Prepared<K, P>(Mutex<Vec<(K, P)>>);

/// The locked cache, whose last entry is in use. Only one run at a time may use the buffers, so another run waits for
/// the lock.
pub(super) struct InUse<'a, K, P>(MutexGuard<'a, Vec<(K, P)>>);

impl<K, P> Default for Prepared<K, P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + PartialEq, P> Prepared<K, P> {
    /// Drops all entries, so that tests can watch a preparation.
    #[cfg(test)]
    pub fn forget(&self) {
        self.0.lock_blocking().clear();
    }

    /// Returns the entry of `key`; if there is none, plans it and prepares it on the device. A new entry replaces the
    /// oldest one if the cache is full. If `prepare` fails, all other entries are dropped to free memory, and `prepare`
    /// runs once more. If `plan` fails, all entries stay.
    ///
    /// # Errors
    /// As `plan`, and as `prepare` if it fails with no other entry in memory.
    pub async fn get<'a, R>(
        &'a self,
        key: K,
        plan: impl Fn(K) -> Result<R>,
        prepare: impl Fn(K, R) -> Boxed<'a, Result<P>>,
    ) -> Result<InUse<'a, K, P>> {
        let mut kept = self.0.lock().await;
        if let Some(at) = kept.iter().position(|(kept_key, _)| *kept_key == key) {
            kept[at..].rotate_left(1);
            return Ok(InUse(kept));
        }
        let planned = plan(key.clone())?;
        if kept.len() == KEPT {
            kept.remove(0);
        }
        let prepared = match prepare(key.clone(), planned).await {
            Err(_) if !kept.is_empty() => {
                // The other entries may have filled the device's memory.
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
        &self.0.last().expect("`get` puts the entry in use last").1
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::{Error, GpuFailure};
    use crate::gpu::block_on;

    #[expect(clippy::unnecessary_wraps, reason = "has the signature of `plan`")]
    fn planned(_: usize) -> Result<()> {
        Ok(())
    }

    fn ready<'a>(outcome: Result<usize>) -> Boxed<'a, Result<usize>> {
        Box::pin(std::future::ready(outcome))
    }

    #[test]
    fn a_request_that_cannot_be_planned_drops_no_entry() {
        let cache = Prepared::default();
        let kept = |cache: &Prepared<usize, usize>| cache.0.lock_blocking().iter().map(|(key, _)| *key).collect::<Vec<_>>();
        let prepare = |key: usize, ()| ready(Ok(key));
        (1..=KEPT).for_each(|key| drop(block_on(cache.get(key, planned, prepare)).unwrap()));
        let refused = |_: usize| Err::<(), _>(Error::option("layers", "there is no block 99"));
        let unplanned = |_: usize, ()| -> Boxed<'_, Result<usize>> { panic!("prepared without a plan") };
        for _ in 0..2 {
            assert!(block_on(cache.get(99, refused, unplanned)).is_err());
            assert_eq!(kept(&cache), [1, 2, 3, 4], "the full cache keeps all entries");
        }
        assert_eq!(*block_on(cache.get(2, refused, unplanned)).unwrap(), 2);
        assert_eq!(kept(&cache), [1, 3, 4, 2]);
    }

    #[test]
    fn the_oldest_goes_first() {
        let (cache, prepared) = (Prepared::default(), RefCell::new(Vec::new()));
        let want = |key: usize| {
            let prepare = |key: usize, ()| {
                prepared.borrow_mut().push(key);
                ready(Ok(10 * key))
            };
            assert_eq!(*block_on(cache.get(key, planned, prepare)).unwrap(), 10 * key);
        };
        [1, 2, 1, 3, 4, 1, 5, 1, 3].into_iter().for_each(want);
        assert_eq!(prepared.take(), [1, 2, 3, 4, 5]);
        want(2);
        assert_eq!(prepared.take(), [2], "the fifth entry replaced entry 2");
        [5, 1, 3, 2].into_iter().for_each(want);
        assert_eq!(prepared.take(), [0; 0], "entry 2 replaced entry 4, the oldest");
    }

    #[test]
    fn short_memory_drops_the_other_entries() {
        let cache = Prepared::default();
        let full = || Error::gpu(GpuFailure::OutOfMemory, "full");
        let tight = |free: usize| move |key: usize, ()| ready(if key <= free { Ok(key) } else { Err(full()) });
        block_on(cache.get(1, planned, tight(1))).unwrap();
        assert!(block_on(cache.get(2, planned, tight(1))).is_err());
        assert!(cache.0.lock_blocking().is_empty(), "the other entries are dropped");
        // The second try succeeds, because the other entries are dropped.
        let tries = RefCell::new(0);
        block_on(cache.get(1, planned, tight(1))).unwrap();
        let second_time = |key: usize, ()| {
            *tries.borrow_mut() += 1;
            ready(if *tries.borrow() == 2 { Ok(key) } else { Err(full()) })
        };
        assert_eq!(*block_on(cache.get(3, planned, second_time)).unwrap(), 3);
    }
}
