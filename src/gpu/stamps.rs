//! The device's own clock, at the begin and the end of compute passes.

use std::time::Duration;

use super::context::Context;
use super::readback::Readback;
use crate::error::Result;

/// When something on the device began and ended, by its clock: since a moment that is the same for all that one device is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The begin of its first compute pass.
    pub begin: Duration,
    /// The end of its last.
    pub end: Duration,
}

impl Span {
    /// How long it took.
    pub fn time(self) -> Duration {
        // A driver that resets its clock in between (sleep, a change of frequency) may count backwards.
        self.end.saturating_sub(self.begin)
    }
}

/// Two timestamps for each of several spans.
#[derive(Debug)]
pub(super) struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    count: u32,
}

impl Stamps {
    /// As many spans as one set of queries times.
    pub const MOST: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

    /// Room for `spans` of them; `None` if the device has no timestamps.
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

    /// What a compute pass is to write for span `at`, of which it is the first, the last, or both; one in between writes nothing.
    pub fn writes(&self, at: usize, first: bool, last: bool) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let query = 2 * at as u32;
        (first || last).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: first.then_some(query),
            end_of_pass_write_index: last.then_some(query + 1),
        })
    }

    /// Sends the spans, whose passes have been submitted, on their way to the host.
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
        Ok(Clocked { readback: Readback::begin(context, &self.resolved)?, period: context.queue().get_timestamp_period() })
    }
}

/// Spans on their way to the host.
#[derive(Debug)]
pub(super) struct Clocked {
    readback: Readback,
    /// Of the device's clock, in nanoseconds.
    period: f32,
}

impl Clocked {
    /// The spans, once they are there.
    ///
    /// # Errors
    /// If the device is lost.
    pub async fn spans(self) -> Result<Vec<Span>> {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.readback.bytes().await?);
        let period = f64::from(self.period);
        let at = |ticks: u64| Duration::from_nanos((ticks as f64 * period) as u64);
        Ok(ticks.chunks_exact(2).map(|pair| Span { begin: at(pair[0]), end: at(pair[1]) }).collect())
    }
}
