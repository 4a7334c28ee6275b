//! Prepared passes, kept for the sizes seen lately.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// Prepared passes that are kept: enough for a scan whose slices and last, smaller batch alternate with another size.
const KEPT: usize = 4;

/// Passes by what they were prepared for, the most recently used last.
#[derive(Debug)]
pub(super) struct Passes<K, P>(Mutex<Vec<(K, P)>>);

/// The passes, locked, the wanted one last: its buffers belong to one run at a time.
pub(super) struct Wanted<'a, K, P>(MutexGuard<'a, Vec<(K, P)>>);

impl<K, P> Default for Passes<K, P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, P> Passes<K, P> {
    /// Forgets all passes, for tests that want to see them made.
    #[cfg(test)]
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The pass for `key`; where it is not there it is planned, and then prepared on the device. Old ones may have to go for it, but not for what
    /// cannot even be planned.
    ///
    /// # Errors
    /// Whatever `plan` says; and whatever `prepare` says, when no other pass takes up memory.
    pub fn wanted<R>(&self, key: K, plan: impl Fn(&K) -> Result<R>, prepare: impl Fn(&K, R) -> Result<P>) -> Result<Wanted<'_, K, P>> {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = passes.iter().position(|(kept, _)| *kept == key) {
            passes[at..].rotate_left(1);
            return Ok(Wanted(passes));
        }
        let planned = plan(&key)?;
        if passes.len() == KEPT {
            passes.remove(0);
        }
        let pass = match prepare(&key, planned) {
            Err(_) if !passes.is_empty() => {
                // Passes of other sizes may be what fills the device.
                passes.clear();
                prepare(&key, plan(&key)?)
            }
            prepared => prepared,
        }?;
        passes.push((key, pass));
        Ok(Wanted(passes))
    }
}

impl<K, P> std::ops::Deref for Wanted<'_, K, P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0.last().expect("the prepared pass").1
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::{Error, GpuFailure};

    #[expect(clippy::unnecessary_wraps, clippy::trivially_copy_pass_by_ref, reason = "what a plan takes and gives")]
    fn planned(_: &usize) -> Result<()> {
        Ok(())
    }

    #[test]
    fn a_request_that_cannot_be_planned_costs_no_pass() {
        let passes = Passes::default();
        let kept = |passes: &Passes<usize, usize>| passes.0.lock().unwrap().iter().map(|(key, _)| *key).collect::<Vec<_>>();
        let prepare = |key: &usize, ()| Ok(*key);
        (1..=KEPT).for_each(|key| drop(passes.wanted(key, planned, prepare).unwrap()));
        let refused = |_: &usize| Err::<(), _>(Error::option("layers", "there is no block 99"));
        for _ in 0..2 {
            assert!(passes.wanted(99, refused, |_, ()| panic!("it was not planned")).is_err());
            assert_eq!(kept(&passes), [1, 2, 3, 4], "all are kept, though there was no room for another");
        }
        assert_eq!(*passes.wanted(2, refused, |_, ()| panic!("it is there")).unwrap(), 2);
        assert_eq!(kept(&passes), [1, 3, 4, 2]);
    }

    #[test]
    fn passes_are_kept_and_the_oldest_goes_first() {
        let (passes, made) = (Passes::default(), RefCell::new(Vec::new()));
        let want = |key: usize| {
            let prepare = |key: &usize, ()| {
                made.borrow_mut().push(*key);
                Ok(10 * key)
            };
            assert_eq!(*passes.wanted(key, planned, prepare).unwrap(), 10 * key);
        };
        [1, 2, 1, 3, 4, 1, 5, 1, 3].into_iter().for_each(want);
        assert_eq!(made.take(), [1, 2, 3, 4, 5]);
        want(2);
        assert_eq!(made.take(), [2], "the fifth drove it out");
        [5, 1, 3, 2].into_iter().for_each(want);
        assert_eq!(made.take(), [0; 0], "4 went for 2");
    }

    #[test]
    fn where_memory_is_short_the_others_go() {
        let passes = Passes::default();
        let tight =
            |free: usize| move |key: &usize, ()| if *key <= free { Ok(*key) } else { Err(Error::gpu(GpuFailure::OutOfMemory, "full")) };
        passes.wanted(1, planned, tight(1)).unwrap();
        assert!(passes.wanted(2, planned, tight(1)).is_err());
        assert!(passes.0.lock().unwrap().is_empty(), "what was in the way is gone");
        // Once they are gone there is room.
        let tries = RefCell::new(0);
        passes.wanted(1, planned, tight(1)).unwrap();
        let second_time = |key: &usize, ()| {
            *tries.borrow_mut() += 1;
            if *tries.borrow() == 2 { Ok(*key) } else { Err(Error::gpu(GpuFailure::OutOfMemory, "full")) }
        };
        assert_eq!(*passes.wanted(3, planned, second_time).unwrap(), 3);
    }
}
