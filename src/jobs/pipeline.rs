//! A three-stage pipeline: reads, computes and writes at the same time.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::system::spawn;
use crate::error::Error;

/// Number of batches that may wait between two stages. It is fixed, so that memory does not grow with the number of
/// images.
const WAITING: usize = 1;

/// Passes every item of `read`, until `read` returns none, through `compute` and `write`, in order. `read` and `write`
/// run on their own threads.
///
/// The first error of any stage ends all three stages, and so does a thread that cannot be started. Items that were
/// read or computed after the error are dropped; items that were written before it stay written.
pub(super) fn run<I: Send, O: Send, E: Send + From<Error>>(
    mut read: impl FnMut() -> Option<Result<I, E>> + Send,
    compute: impl FnMut(I) -> Result<O, E>,
    mut write: impl FnMut(O) -> Result<(), E> + Send,
) -> Result<(), E> {
    thread::scope(|scope| {
        let (to_compute, inputs) = sync_channel(WAITING);
        let (to_write, outputs) = sync_channel(WAITING);
        spawn(scope, move || {
            while let Some(item) = read() {
                let last = item.is_err();
                if to_compute.send(item).is_err() || last {
                    break;
                }
            }
        })?;
        let writer = spawn(scope, move || outputs.into_iter().try_for_each(&mut write))?;
        let computed = feed(inputs, compute, &to_write);
        drop(to_write);
        // The writer's error takes precedence, because it concerns an earlier item.
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(computed)
    })
}

/// Computes until the inputs end, an input is an error, or the writer has ended. The writer returns its own error.
fn feed<I, O, E>(inputs: Receiver<Result<I, E>>, mut compute: impl FnMut(I) -> Result<O, E>, to_write: &SyncSender<O>) -> Result<(), E> {
    for item in inputs {
        if to_write.send(compute(item?)?).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Which stage failed.
    #[derive(Debug, PartialEq)]
    struct Failed(&'static str);

    impl From<Error> for Failed {
        fn from(_: Error) -> Self {
            Self("spawn")
        }
    }

    /// Sends 1000 numbers through stages that fail at the given numbers. Returns the result, how many were read, and
    /// which were written.
    fn run_to(read_fails: usize, compute_fails: usize, write_fails: usize) -> (Result<(), Failed>, usize, Vec<usize>) {
        let read = AtomicUsize::new(0);
        let mut written = Vec::new();
        let done = run(
            || match read.fetch_add(1, Ordering::SeqCst) {
                i if i == read_fails => Some(Err(Failed("read"))),
                i => (i < 1000).then_some(Ok(i)),
            },
            |i| if i == compute_fails { Err(Failed("compute")) } else { Ok(i * 2) },
            |i| {
                written.push(i / 2);
                if i == write_fails * 2 { Err(Failed("write")) } else { Ok(()) }
            },
        );
        (done, read.into_inner(), written)
    }

    const NEVER: usize = usize::MAX / 2;

    #[test]
    fn everything_arrives_in_order() {
        let (done, _, written) = run_to(NEVER, NEVER, NEVER);
        assert_eq!((done, written), (Ok(()), (0..1000).collect()));
    }

    /// As on a GPU, `compute` only starts an item and `write` waits for it. Meanwhile a limited number of further items
    /// starts.
    #[test]
    fn two_are_computed_ahead_of_the_one_that_is_written() {
        let (began, begun) = std::sync::mpsc::channel();
        let mut numbers = 0..10;
        let done = run(
            || numbers.next().map(Ok),
            |i| began.send(i).map(|()| i).map_err(|_| Failed("no receiver")),
            move |i| {
                let ahead = |wait| begun.recv_timeout(std::time::Duration::from_millis(wait)).ok();
                match i {
                    0 if [ahead(10_000), ahead(10_000), ahead(10_000), ahead(20)] != [Some(0), Some(1), Some(2), None] => {
                        Err(Failed("not two ahead"))
                    }
                    _ => Ok(()),
                }
            },
        );
        assert_eq!(done, Ok(()));
    }

    #[test]
    fn an_error_of_any_stage_ends_all() {
        for (fails, stage, last) in [((7, NEVER, NEVER), "read", 6), ((NEVER, 7, NEVER), "compute", 6), ((NEVER, NEVER, 7), "write", 7)] {
            let (done, read, written) = run_to(fails.0, fails.1, fails.2);
            assert_eq!(done, Err(Failed(stage)));
            assert_eq!(written, (0..=last).collect::<Vec<_>>(), "{stage}");
            assert!(read < 20, "{stage}: {read} were read, but the pipeline should have stopped");
        }
    }
}
