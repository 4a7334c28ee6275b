//! Waits for a device until wgpu calls back.
//!
//! wgpu runs callbacks only while some thread polls the device. A browser polls on its own. Elsewhere the context's
//! poller thread polls while a future of this room is pending, so that any executor can await the future and park its
//! own thread. A blocking form polls on the thread that it blocks.

#[cfg(not(target_arch = "wasm32"))]
use std::sync::Arc;
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

use super::answer::Answer;
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::is_blocking;
use super::context::Context;
use crate::error::Result;
#[cfg(not(target_arch = "wasm32"))]
use crate::error::{Error, GpuFailure};

/// How long to wait for the callback after a poll has seen the work finished. Another thread that polls the device may
/// be the one that runs the callback, so it may come later than this thread's poll returns.
#[cfg(not(target_arch = "wasm32"))]
const CALLBACK: Duration = Duration::from_secs(10);

impl Context {
    /// Waits until the device has finished all work submitted so far.
    pub(super) async fn done(&self, doing: &str) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if is_blocking() {
            return self.poll(doing, wgpu::PollType::wait_indefinitely());
        }
        let answer = Answer::default();
        let sender = answer.clone();
        self.queue().on_submitted_work_done(move || sender.give(Ok(())));
        self.poll_until_answered(None, &answer, doing);
        answer.await?;
        self.alive(doing)
    }

    /// Polls the device until it has finished `submission` (all submitted work if `None`) and `answer` is given. A
    /// blocking form polls on its own thread, a future on the poller's thread.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn poll_until_answered(&self, submission: Option<wgpu::SubmissionIndex>, answer: &Answer, doing: &str) {
        if is_blocking() {
            return self.poll_and_wait(submission, answer, doing);
        }
        // The job's context must not keep alive the poller that runs the job: dropping that poller waits for the job.
        let mut context = self.clone();
        context.poller = Arc::default();
        let (answer, doing) = (answer.clone(), doing.to_owned());
        self.poller.run(Box::new(move || context.poll_and_wait(submission, &answer, &doing)));
    }

    /// Does nothing, because a browser polls on its own.
    #[cfg(target_arch = "wasm32")]
    #[expect(clippy::unused_self, reason = "outside a browser, the context polls its device")]
    pub(super) fn poll_until_answered(&self, _: Option<wgpu::SubmissionIndex>, _: &Answer, _: &str) {}

    /// Polls on this thread until the device has finished `submission` and `answer` is given. If the device fails,
    /// `answer` becomes the error.
    #[cfg(not(target_arch = "wasm32"))]
    fn poll_and_wait(&self, submission: Option<wgpu::SubmissionIndex>, answer: &Answer, doing: &str) {
        match self.poll(doing, wgpu::PollType::Wait { submission_index: submission, timeout: None }) {
            Err(problem) => answer.give(Err(problem)),
            Ok(()) if answer.is_given_within(CALLBACK) => {}
            Ok(()) => {
                let message = format!("{doing}: the device did not report that it finished the work; open it again");
                answer.give(Err(Error::gpu(GpuFailure::Lost, message)));
            }
        }
    }
}
