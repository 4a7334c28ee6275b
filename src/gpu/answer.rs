//! A device's callback as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll, Waker};
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

use crate::error::Result;

/// A one-shot channel for the outcome of one operation: a wgpu callback gives the answer, a future takes it. Clones
/// share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
enum State {
    Awaited(Option<Waker>),
    Given(Result<()>),
    Taken,
}

impl Default for State {
    fn default() -> Self {
        Self::Awaited(None)
    }
}

impl Answer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the answer and wakes the waiting task. Replaces an earlier answer that nobody has taken yet.
    pub fn give(&self, answer: Result<()>) {
        let mut state = self.state();
        if matches!(*state, State::Taken) {
            return;
        }
        let previous = std::mem::replace(&mut *state, State::Given(answer));
        drop(state);
        self.0.1.notify_all();
        if let State::Awaited(Some(waker)) = previous {
            waker.wake();
        }
    }

    /// Blocks until the answer is given, at most for `time`. Returns whether it is given.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn is_given_within(&self, time: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(self.state(), time, |state| matches!(state, State::Awaited(_)));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !matches!(*state, State::Awaited(_))
    }
}

impl Future for Answer {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Given(answer) => Poll::Ready(answer),
            State::Awaited(_) => {
                *state = State::Awaited(Some(task.waker().clone()));
                Poll::Pending
            }
            State::Taken => panic!("an answer is taken once"),
        }
    }
}
