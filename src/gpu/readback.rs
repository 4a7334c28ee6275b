//! Results back on the host, without blocking; a blocking wrapper stands beside it.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use super::context::Context;
use crate::error::{Error, GpuFailure, Problem, Result};

/// A tensor's values on their way to the host. A future; it is ready once the device has been polled after finishing the copy, which a
/// browser does by itself, and elsewhere whoever owns the device.
#[derive(Debug)]
pub struct Readback {
    /// `None` where there was no memory for it.
    staging: Option<wgpu::Buffer>,
    /// `None` where the host submits it.
    submission: Option<wgpu::SubmissionIndex>,
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

/// How long a device may take to call back once it has done its work: it is another thread that is calling.
const CALLBACK: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Shared {
    mapped: Option<Result<()>>,
    waker: Option<Waker>,
}

impl Readback {
    /// Submits a copy of `buffer` and asks for it to be mapped.
    pub(super) fn begin(context: &Context, buffer: &wgpu::Buffer) -> Result<Self> {
        context.checked(DOING, || {
            let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
            let readback = Self::into(staging(context, buffer), &mut encoder, buffer);
            Ok(Self { submission: Some(context.submit([encoder.finish()])), ..readback })
        })
    }

    /// Records a copy of `buffer` (usage `COPY_SRC`) and the mapping of it, for a host that submits and polls itself. Never ready if that is not submitted.
    /// Where the device has no memory for it nothing is recorded, and the future is ready at once with that error.
    pub fn encode(context: &Context, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Self {
        match context.checked(DOING, || Ok(staging(context, buffer))) {
            Ok(staging) => Self::into(staging, encoder, buffer),
            Err(problem) => {
                let failed = Shared { mapped: Some(Err(problem)), waker: None };
                Self { staging: None, submission: None, shared: Arc::new((Mutex::new(failed), Condvar::new())) }
            }
        }
    }

    fn into(staging: wgpu::Buffer, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Self {
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        let shared = Arc::<(Mutex<Shared>, Condvar)>::default();
        let told = Arc::clone(&shared);
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |mapped| {
            let (shared, called) = &*told;
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.mapped = Some(mapped.map_err(failed));
            called.notify_all();
            if let Some(waker) = shared.waker.take() {
                waker.wake();
            }
        });
        Self { staging: Some(staging), submission: None, shared }
    }

    /// The bytes, if they are there. The mapping ends with the staging buffer, that is with `self`.
    fn take(&self) -> Option<Result<Vec<u8>>> {
        let mapped = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).mapped.take()?;
        Some(mapped.and_then(|()| {
            let staging = self.staging.as_ref().expect("what was mapped is there");
            Ok(staging.get_mapped_range(..).map_err(failed)?.to_vec())
        }))
    }

    /// Blocks until the bytes are there.
    pub(super) fn bytes(self, context: &Context) -> Result<Vec<u8>> {
        match &self.submission {
            Some(submission) => context.wait_for(submission, DOING)?,
            None => context.wait(DOING)?,
        }
        // Another thread, which was submitting, may have found the work done and be about to call.
        let (shared, called) = &*self.shared;
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        drop(called.wait_timeout_while(shared, CALLBACK, |shared| shared.mapped.is_none()));
        self.take().unwrap_or_else(|| Err(Error::gpu(GpuFailure::Lost, "reading back: the device has forgotten the copy; open it anew")))
    }

    /// Blocks until the values are there; for native programs.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn wait(self, context: &Context) -> Result<Vec<f32>> {
        self.bytes(context).map(|bytes| bytemuck::pod_collect_to_vec(&bytes))
    }
}

/// What errors open with.
const DOING: &str = "reading back";

fn failed(problem: impl StdError + Send + Sync + 'static) -> Error {
    let text = format!("{DOING}: {problem}; the device may be lost: open it anew, or use `backend` cpu");
    Error::gpu(GpuFailure::Lost, Problem::caused_by(text, problem))
}

/// Memory of the host's that a copy of `buffer` fits into.
fn staging(context: &Context, buffer: &wgpu::Buffer) -> wgpu::Buffer {
    context.buffer("readback", buffer.size(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
}

impl Future for Readback {
    type Output = Result<Vec<f32>>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        // The waker goes in first: the callback may come between the look and the leaving.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).waker = Some(task.waker().clone());
        self.take().map_or(Poll::Pending, |bytes| Poll::Ready(bytes.map(|b| bytemuck::pod_collect_to_vec(&b))))
    }
}
