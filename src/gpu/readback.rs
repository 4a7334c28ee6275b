//! Results back on the host.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

use super::answer::Answer;
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use crate::error::{Error, GpuFailure, Problem, Result};

/// A tensor's values on their way to the host: a future. Where this crate submitted the copy, it has the device polled while the future is
/// pending; where a host did ([`Readback::encode`]), the future is ready once the host has polled its device after the copy was done. A browser
/// polls by itself.
#[derive(Debug)]
pub struct Readback {
    /// `None` where there was no memory for it.
    staging: Option<wgpu::Buffer>,
    mapped: Answer,
    /// Where it was submitted, until the device is polled for it; the host polls for a copy that it submits.
    unpolled: Option<(Context, Option<wgpu::SubmissionIndex>)>,
}

impl Readback {
    /// Submits a copy of `buffer` and asks for it to be mapped.
    pub(super) fn begin(context: &Context, buffer: &wgpu::Buffer) -> Result<Self> {
        context.checked(DOING, || {
            let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
            let readback = Self::into(staging(context, buffer), &mut encoder, buffer);
            let submission = context.submit([encoder.finish()]);
            Ok(Self { unpolled: Some((context.clone(), Some(submission))), ..readback })
        })
    }

    /// Records a copy of `buffer` (usage `COPY_SRC`) and the mapping of it, for a host that submits and polls itself. Never ready if that is not submitted.
    /// Where the device has no memory for it nothing is recorded, and the future is ready at once with that error.
    pub fn encode(context: &Context, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Self {
        match context.checked(DOING, || Ok(staging(context, buffer))) {
            Ok(staging) => Self::into(staging, encoder, buffer),
            Err(problem) => {
                let mapped = Answer::default();
                mapped.give(Err(problem));
                Self { staging: None, mapped, unpolled: None }
            }
        }
    }

    fn into(staging: wgpu::Buffer, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Self {
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        let mapped = Answer::default();
        let called = mapped.clone();
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |result| {
            called.give(result.map_err(failed));
        });
        Self { staging: Some(staging), mapped, unpolled: None }
    }

    /// The bytes. The mapping ends with the staging buffer, that is with `self`.
    pub(super) async fn bytes(mut self) -> Result<Vec<u8>> {
        poll_fn(|task| self.poll_bytes(task)).await
    }

    fn poll_bytes(&mut self, task: &mut Task<'_>) -> Poll<Result<Vec<u8>>> {
        if let Some((context, submission)) = self.unpolled.take() {
            context.see_to(submission, &self.mapped, DOING);
        }
        Poll::Ready(ready!(Pin::new(&mut self.mapped).poll(task)).and_then(|()| {
            let staging = self.staging.as_ref().expect("what was mapped is there");
            Ok(staging.get_mapped_range(..).map_err(failed)?.to_vec())
        }))
    }

    /// Blocks until the values are there, and polls the device meanwhile, also for a copy that a host has submitted.
    ///
    /// # Errors
    /// If the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(mut self, context: &Context) -> Result<Vec<f32>> {
        self.unpolled.get_or_insert_with(|| (context.clone(), None));
        block_on(self)
    }
}

/// What errors open with.
const DOING: &str = "reading back";

fn failed(problem: impl StdError + Send + Sync + 'static) -> Error {
    let text = format!("{DOING}: {problem}; the device may be lost; open it again, or use `backend` cpu");
    Error::gpu(GpuFailure::Lost, Problem::caused_by(text, problem))
}

/// Memory of the host's that a copy of `buffer` fits into.
fn staging(context: &Context, buffer: &wgpu::Buffer) -> wgpu::Buffer {
    context.buffer("readback", buffer.size(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
}

impl Future for Readback {
    type Output = Result<Vec<f32>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        self.poll_bytes(task).map_ok(|bytes| bytemuck::pod_collect_to_vec(&bytes))
    }
}
