//! Copies results back to the host.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll, ready};

use super::answer::Answer;
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use crate::advice::{AGAIN, CPU};
use crate::error::{Error, GpuFailure, Problem, Result};

/// A tensor's values on their way to the host, as a future. If this crate submits the copy, it polls the device while
/// the future is pending. If a host submits the copy ([`Readback::encode`]), the future is ready once the host polls
/// its device after the copy is finished. A browser polls on its own.
#[derive(Debug)]
pub struct Readback {
    /// The staging buffer; `None` if the device had no memory for it.
    staging: Option<wgpu::Buffer>,
    mapped: Answer,
    /// Where the staging buffer goes after its use.
    idle: Option<Idle>,
    /// The context and the submission of the copy, until this future polls the device for it. `None` for a copy that a
    /// host submits, because the host polls.
    unpolled: Option<(Context, Option<wgpu::SubmissionIndex>)>,
}

/// Staging buffers of one tensor that wait for their next use. A new one costs the driver as much time as a copy, because
/// it pins the memory. Clones share the buffers.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<Vec<wgpu::Buffer>>>);

/// The most staging buffers that are kept for a tensor. A pipeline that computes ahead uses as many at once.
const KEPT: usize = 4;

impl Idle {
    fn take(&self) -> Option<wgpu::Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give(&self, staging: wgpu::Buffer) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(staging);
        }
    }
}

impl Readback {
    /// Submits a copy of `buffer` into a staging buffer, and maps that. The staging buffer is one of `idle`, whose
    /// buffers have the size of `buffer`, or a new one.
    pub(super) fn begin(context: &Context, buffer: &wgpu::Buffer, idle: &Idle) -> Result<Self> {
        context.checked(DOING, || {
            let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
            let staging = idle.take().unwrap_or_else(|| staging(context, buffer));
            let readback = Self::into(staging, &mut encoder, buffer);
            let submission = context.submit([encoder.finish()]);
            Ok(Self { idle: Some(idle.clone()), unpolled: Some((context.clone(), Some(submission))), ..readback })
        })
    }

    /// Records a copy of `buffer` (usage `COPY_SRC`) into a staging buffer and the mapping of that buffer, for a host
    /// that submits and polls itself. The future is never ready if the host does not submit the encoder. If the device
    /// has no memory for the staging buffer, nothing is recorded, and the future is ready at once with that error.
    pub fn encode(context: &Context, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Self {
        match context.checked(DOING, || Ok(staging(context, buffer))) {
            Ok(staging) => Self::into(staging, encoder, buffer),
            Err(problem) => {
                let mapped = Answer::default();
                mapped.give(Err(problem));
                Self { staging: None, mapped, idle: None, unpolled: None }
            }
        }
    }

    fn into(staging: wgpu::Buffer, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Self {
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        let mapped = Answer::default();
        let sender = mapped.clone();
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |result| {
            sender.give(result.map_err(failed));
        });
        Self { staging: Some(staging), mapped, idle: None, unpolled: None }
    }

    /// Waits for the copy and passes its bytes to `take`, in the memory that the device has written.
    pub(super) async fn read<T>(mut self, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        poll_fn(|task| self.poll_mapped(task)).await?;
        let taken = self.mapped_bytes(take)?;
        if let Some((idle, staging)) = self.idle.zip(self.staging) {
            staging.unmap();
            idle.give(staging);
        }
        Ok(taken)
    }

    fn poll_mapped(&mut self, task: &mut Task<'_>) -> Poll<Result<()>> {
        if let Some((context, submission)) = self.unpolled.take() {
            context.poll_until_answered(submission, &self.mapped, DOING);
        }
        Pin::new(&mut self.mapped).poll(task)
    }

    fn mapped_bytes<T>(&self, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let staging = self.staging.as_ref().expect("a mapped readback has a staging buffer");
        Ok(take(&staging.get_mapped_range(..).map_err(failed)?))
    }

    /// Blocks until the values are on the host. Polls the device meanwhile, even for a copy that a host has submitted.
    ///
    /// # Errors
    /// If the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(mut self, context: &Context) -> Result<Vec<f32>> {
        self.unpolled.get_or_insert_with(|| (context.clone(), None));
        block_on(self)
    }
}

/// The operation that the texts of errors begin with.
const DOING: &str = "reading back";

fn failed(problem: impl StdError + Send + Sync + 'static) -> Error {
    let text = format!("{DOING}: {problem}; the device may be lost; {AGAIN}, or use {CPU}");
    Error::gpu(GpuFailure::Lost, Problem::caused_by(text, problem))
}

/// Creates a staging buffer of the size of `buffer`, which the host can map.
fn staging(context: &Context, buffer: &wgpu::Buffer) -> wgpu::Buffer {
    context.buffer("readback", buffer.size(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
}

impl Future for Readback {
    type Output = Result<Vec<f32>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let mapped = ready!(self.poll_mapped(task));
        Poll::Ready(mapped.and_then(|()| self.mapped_bytes(bytemuck::pod_collect_to_vec)))
    }
}
