//! Timestamps of the device's clock at the begin and the end of compute passes.

use std::time::Duration;

use super::context::Context;
use super::readback::{Idle, Readback};
use crate::error::Result;

/// The begin and the end of some work on a device, by the device's clock. The clock's zero is the same for all spans of
/// a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The begin of the work's first compute pass.
    pub begin: Duration,
    /// The end of the work's last compute pass.
    pub end: Duration,
}

impl Span {
    /// Returns the time from begin to end.
    pub fn time(self) -> Duration {
        // If the driver resets its clock in between (sleep, a change of frequency), the end may be before the begin.
        self.end.saturating_sub(self.begin)
    }
}

/// A query set with two timestamps for each of several spans.
#[derive(Debug)]
pub(super) struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    count: u32,
}

impl Stamps {
    /// The most spans that one query set holds.
    pub const MOST: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

    /// Creates a query set for `spans` spans; `None` if the device has no timestamps.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub async fn new(context: &Context, spans: usize) -> Result<Option<Self>> {
        if !context.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let count = 2 * spans as u32;
        let prepare = || {
            let queries = context.query_set("stamps", count);
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let resolved = context.buffer("stamps", u64::from(count) * u64::from(wgpu::QUERY_SIZE), usage);
            Ok(Some(Self { queries, resolved, count }))
        };
        context.checked_async("preparing timestamps", prepare).await
    }

    /// Returns the timestamps that a compute pass writes for span `at`: the begin if it is the span's first pass, the
    /// end if it is the last. `None` for a pass in between.
    pub fn writes(&self, at: usize, first: bool, last: bool) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let query = 2 * at as u32;
        (first || last).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: first.then_some(query),
            end_of_pass_write_index: last.then_some(query + 1),
        })
    }

    /// Begins to copy the spans to the host. Their passes must have been submitted.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub fn begin(self, context: &Context) -> Result<Clocked> {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("stamps") };
        context.checked("reading timestamps", || {
            let mut encoder = context.device().create_command_encoder(&descriptor);
            encoder.resolve_query_set(&self.queries, 0..self.count, &self.resolved, 0);
            context.submit([encoder.finish()]);
            Ok(())
        })?;
        Ok(Clocked {
            readback: Readback::begin(context, &self.resolved, &Idle::default())?,
            period: context.queue().get_timestamp_period(),
        })
    }
}

/// Spans on their way to the host.
#[derive(Debug)]
pub(super) struct Clocked {
    readback: Readback,
    /// The period of the device's clock in nanoseconds.
    period: f32,
}

impl Clocked {
    /// Waits for the copy and returns the spans.
    ///
    /// # Errors
    /// If the device is lost.
    pub async fn spans(self) -> Result<Vec<Span>> {
        let ticks: Vec<u64> = self.readback.read(bytemuck::pod_collect_to_vec).await?;
        let period = f64::from(self.period);
        let at = |ticks: u64| Duration::from_nanos((ticks as f64 * period) as u64);
        Ok(ticks.chunks_exact(2).map(|pair| Span { begin: at(pair[0]), end: at(pair[1]) }).collect())
    }
}
