//! Waiting for a device, which calls back when it is done.
//!
//! wgpu calls back only while somebody polls the device. A browser does that by itself. Elsewhere a thread of the context's polls while a
//! future of this room is pending, so that any executor can await the future and park its own thread; a blocking form polls on the thread
//! that it blocks.

#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

use super::answer::Answer;
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::is_blocking;
use super::context::Context;
use crate::error::Result;
#[cfg(not(target_arch = "wasm32"))]
use crate::error::{Error, GpuFailure};

/// How long a device may take to call back once it has done its work, because another thread may be the one that calls.
#[cfg(not(target_arch = "wasm32"))]
const CALLBACK: Duration = Duration::from_secs(10);

impl Context {
    /// Waits until the device has done all that was submitted before.
    pub(super) async fn done(&self, doing: &str) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if is_blocking() {
            return self.poll(doing, wgpu::PollType::wait_indefinitely());
        }
        let answer = Answer::default();
        let given = answer.clone();
        self.queue().on_submitted_work_done(move || given.give(Ok(())));
        self.see_to(None, &answer, doing);
        answer.await?;
        self.alive(doing)
    }

    /// Has the device polled until it has done `submission`, or all that was submitted, and has called back with `answer`: on this thread in a
    /// blocking form, else on the poller's.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn see_to(&self, submission: Option<wgpu::SubmissionIndex>, answer: &Answer, doing: &str) {
        if is_blocking() {
            return self.poll_for(submission, answer, doing);
        }
        let (context, answer, doing) = (self.clone(), answer.clone(), doing.to_owned());
        self.poller.run(Box::new(move || context.poll_for(submission, &answer, &doing)));
    }

    /// A browser polls by itself.
    #[cfg(target_arch = "wasm32")]
    #[expect(clippy::unused_self, reason = "elsewhere a context has its device polled")]
    pub(super) fn see_to(&self, _: Option<wgpu::SubmissionIndex>, _: &Answer, _: &str) {}

    #[cfg(not(target_arch = "wasm32"))]
    fn poll_for(&self, submission: Option<wgpu::SubmissionIndex>, answer: &Answer, doing: &str) {
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
