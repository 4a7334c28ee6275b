//! Reads features back from a host's device to its memory.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use crate::error::Result;
use crate::gpu::{Executable, Readback, wgpu};
use crate::graph::TensorId;
use crate::tensor::Tensor;
use crate::vit::config::Grid;
use crate::vit::features::{Features, Range};
use crate::vit::forward::Forward;

/// A future of the features of a pass, which are being copied to the host's memory. It is ready after the host has
/// submitted the encoder, the device has run the commands, and the host has polled the device; a browser polls on its
/// own. It never becomes ready if the encoder is not submitted.
///
/// # Errors
/// Gives an error if the features are not finite, or if the device is out of memory or lost.
#[derive(Debug)]
pub struct Reading {
    grid: Grid,
    range: Range,
    forward: Forward,
    /// In the order of [`outputs`].
    parts: Vec<Part>,
}

/// One output.
#[derive(Debug)]
struct Part {
    shape: Vec<usize>,
    readback: Readback,
    values: Option<Vec<f32>>,
}

impl Reading {
    /// Records the copies of all outputs of a pass.
    pub(super) fn encode(executable: &Executable, forward: &Forward, grid: Grid, encoder: &mut wgpu::CommandEncoder) -> Self {
        let context = executable.context();
        let part = |id: TensorId| {
            let buffer = executable.buffer(id).expect("an output is written");
            let readback = Readback::encode(context, encoder, buffer);
            Part { shape: executable.graph().info(id).shape.clone(), readback, values: None }
        };
        let parts = outputs(forward).map(part).collect();
        Self { grid, range: context.limits().into(), forward: forward.clone(), parts }
    }

    /// Returns the features, once every part is read.
    fn features(&mut self) -> Result<Features> {
        let mut parts = self.parts.drain(..).map(|part| Tensor::new(part.shape, part.values.expect("every part is there")));
        let mut next = || parts.next().expect("a part for every output");
        let features = Features {
            grid: self.grid,
            x_norm: next(),
            x_prenorm: self.forward.x_prenorm.map(|_| next()),
            layers: self.forward.layers.iter().map(|(n, _)| (*n, next())).collect(),
            taps: self.forward.taps.iter().map(|(name, _)| (name.clone(), next())).collect(),
        };
        if features.are_finite() { Ok(features) } else { Err(features.overflow(self.range)) }
    }
}

/// Returns the outputs of a pass, each of f32.
fn outputs(forward: &Forward) -> impl Iterator<Item = TensorId> {
    let layers = forward.layers.iter().map(|(_, id)| *id);
    let taps = forward.taps.iter().map(|(_, id)| *id);
    std::iter::once(forward.x_norm).chain(forward.x_prenorm).chain(layers).chain(taps)
}

impl Future for Reading {
    type Output = Result<Features>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        for part in self.parts.iter_mut().filter(|part| part.values.is_none()) {
            match Pin::new(&mut part.readback).poll(task) {
                Poll::Ready(values) => part.values = Some(values?),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(self.features())
    }
}
