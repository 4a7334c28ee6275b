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
    /// The pass for `key`, prepared if it is not there; old ones may have to go for it.
    ///
    /// # Errors
    /// Whatever `prepare` says, when no other pass takes up memory.
    pub fn wanted(&self, key: K, prepare: impl Fn(&K) -> Result<P>) -> Result<Wanted<'_, K, P>> {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = passes.iter().position(|(kept, _)| *kept == key).map(|at| passes.remove(at).1);
        let pass = kept.map_or_else(|| prepare_beside(&mut passes, &key, prepare), Ok)?;
        passes.push((key, pass));
        Ok(Wanted(passes))
    }
}

fn prepare_beside<K, P>(passes: &mut Vec<(K, P)>, key: &K, prepare: impl Fn(&K) -> Result<P>) -> Result<P> {
    if passes.len() == KEPT {
        passes.remove(0);
    }
    let prepared = prepare(key);
    if prepared.is_ok() || passes.is_empty() {
        return prepared;
    }
    // Passes of other sizes may be what fills the device.
    passes.clear();
    prepare(key)
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
    use crate::error::Error;

    #[test]
    fn passes_are_kept_and_the_oldest_goes_first() {
        let (passes, made) = (Passes::default(), RefCell::new(Vec::new()));
        let want = |key: usize| {
            let prepare = |key: &usize| {
                made.borrow_mut().push(*key);
                Ok(10 * key)
            };
            assert_eq!(*passes.wanted(key, prepare).unwrap(), 10 * key);
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
        let tight = |free: usize| move |key: &usize| if *key <= free { Ok(*key) } else { Err(Error::gpu("full".to_owned())) };
        passes.wanted(1, tight(1)).unwrap();
        assert!(passes.wanted(2, tight(1)).is_err());
        assert!(passes.0.lock().unwrap().is_empty(), "what was in the way is gone");
        // Once they are gone there is room.
        let tries = RefCell::new(0);
        passes.wanted(1, tight(1)).unwrap();
        let second_time = |key: &usize| {
            *tries.borrow_mut() += 1;
            if *tries.borrow() == 2 { Ok(*key) } else { Err(Error::gpu("full".to_owned())) }
        };
        assert_eq!(*passes.wanted(3, second_time).unwrap(), 3);
    }
}
