//! A model's parameters on the device. They are uploaded once, and the executables of all image sizes share them.

use std::borrow::Cow;
use std::collections::HashMap;

use half::f16;
use half::slice::HalfFloatSliceExt;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use crate::advice::CPU;
use crate::error::{Error, GpuFailure, Result};
use crate::graph::Elem;
use crate::parallel;
use crate::tensor::Tensor;

/// The most host bytes in flight during an upload. wgpu keeps a copy of written bytes until the device has copied them.
const IN_FLIGHT: u64 = 64 << 20;

/// Buffers by parameter name, such as `blocks.3.attn.qkv.weight`.
#[derive(Clone, Debug, Default)]
pub struct GpuWeights {
    buffers: HashMap<String, wgpu::Buffer>,
}

impl GpuWeights {
    /// Uploads tensors one after another. Apart from the caller's tensors, it holds at most about 64 MiB on the host.
    ///
    /// # Errors
    /// If a tensor is larger than the device's largest buffer, or the device is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn upload<'a>(context: &Context, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Self> {
        block_on(Self::upload_async(context, tensors.into_iter().collect()))
    }

    /// [`GpuWeights::upload`] as a future.
    ///
    /// # Errors
    /// If a tensor is larger than the device's largest buffer, or the device is out of memory or lost.
    pub async fn upload_async(context: &Context, tensors: Vec<(&str, &Tensor)>) -> Result<Self> {
        let tensors = tensors.into_iter().map(|(name, tensor)| (name, tensor, Elem::F32)).collect();
        Self::upload_as_async(context, tensors).await
    }

    /// Uploads tensors as [`GpuWeights::upload`] does, with the elements of each tensor converted to the given type.
    ///
    /// # Errors
    /// As [`GpuWeights::upload`], or if a value is not finite or beyond the range of f16.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn upload_as<'a>(context: &Context, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor, Elem)>) -> Result<Self> {
        block_on(Self::upload_as_async(context, tensors.into_iter().collect()))
    }

    /// [`GpuWeights::upload_as`] as a future.
    ///
    /// # Errors
    /// As [`GpuWeights::upload_async`], or if a value is not finite or beyond the range of f16.
    pub async fn upload_as_async(context: &Context, tensors: Vec<(&str, &Tensor, Elem)>) -> Result<Self> {
        let mut upload = Upload::new(context);
        for (name, tensor, elem) in tensors {
            upload.add(name, tensor, elem).await?;
        }
        upload.finish().await
    }

    /// Adds the buffers of `others`.
    pub(super) fn extend(&mut self, others: Self) {
        self.buffers.extend(others.buffers);
    }

    /// Uses an existing buffer for a parameter, such as the output of another graph or of a host.
    pub fn lend(&mut self, name: &str, buffer: wgpu::Buffer) {
        self.buffers.insert(name.to_owned(), buffer);
    }

    /// Returns the buffer of a parameter.
    pub fn get(&self, name: &str) -> Option<&wgpu::Buffer> {
        self.buffers.get(name)
    }

    /// Returns the bytes of all buffers on the device.
    pub fn bytes(&self) -> u64 {
        self.buffers.values().map(wgpu::Buffer::size).sum()
    }
}

/// An upload of parameters one after another, so that the caller need not hold them all. Dropping it frees the buffers
/// on the device.
pub(super) struct Upload<'a> {
    context: &'a Context,
    weights: GpuWeights,
    /// Bytes of which wgpu may still keep a copy.
    in_flight: u64,
}

impl<'a> Upload<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, weights: GpuWeights::default(), in_flight: 0 }
    }

    /// Uploads one parameter, with its elements converted to `elem`.
    ///
    /// # Errors
    /// As [`GpuWeights::upload_as_async`].
    pub async fn add(&mut self, name: &str, tensor: &Tensor, elem: Elem) -> Result<()> {
        let context = self.context;
        if elem == Elem::F16 {
            check_range(name, tensor)?;
        }
        let bytes: &[u8] = &encoded(tensor.data(), elem);
        let size = bytes.len() as u64;
        let largest = context.limits().max_buffer;
        if size > largest {
            let problem = format!("{name} takes {size} bytes, and this device's largest buffer is {largest}; use {CPU}");
            return Err(Error::gpu(GpuFailure::Unsupported, problem));
        }
        let create = || {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let buffer = context.buffer(name, size, usage);
            context.queue().write_buffer(&buffer, 0, bytes);
            Ok(buffer)
        };
        let buffer = context.checked_async(&format!("uploading {name}"), create).await?;
        self.weights.buffers.insert(name.to_owned(), buffer);
        self.in_flight += size;
        if self.in_flight > IN_FLIGHT {
            settle(context).await?;
            self.in_flight = 0;
        }
        Ok(())
    }

    /// Waits until the device has every byte, and returns the buffers.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub async fn finish(self) -> Result<GpuWeights> {
        settle(self.context).await?;
        Ok(self.weights)
    }
}

/// Checks that f16 can hold every value of a parameter.
fn check_range(name: &str, tensor: &Tensor) -> Result<()> {
    match tensor.data().iter().find(|v| !f16::from_f32(**v).is_finite()) {
        None => Ok(()),
        Some(v) if v.is_finite() => {
            Err(Error::option("precision", format!("{name} holds {v}, beyond the range of f16 (65504); use `precision` f32")))
        }
        Some(v) => Err(Error::option("weights", format!("{name} holds {v}, and every weight must be finite"))),
    }
}

/// Returns values as the bytes of a device's buffer, padded to whole 32-bit words. f16 values are rounded to nearest
/// even.
pub(super) fn encoded(values: &[f32], elem: Elem) -> Cow<'_, [u8]> {
    match elem {
        Elem::F32 => Cow::Borrowed(bytemuck::cast_slice(values)),
        Elem::F16 => {
            let mut halves = vec![f16::ZERO; values.len().next_multiple_of(2)];
            halves[..values.len()].convert_from_f32_slice(values);
            Cow::Owned(bytemuck::pod_collect_to_vec(&halves))
        }
    }
}

/// The number of values that one task copies.
const CHUNK: usize = 1 << 16;

/// Fills `values` with the first values of a device's buffer.
pub(super) fn decode(bytes: &[u8], elem: Elem, values: &mut [f32]) {
    parallel::for_each_chunk(values, CHUNK, |at, to| {
        let from = &bytes[at * CHUNK * elem.bytes()..][..to.len() * elem.bytes()];
        match elem {
            Elem::F32 => bytemuck::cast_slice_mut(to).copy_from_slice(from),
            Elem::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(from).convert_to_f32_slice(to),
        }
    });
}

/// Waits until the device has copied all written bytes, so that wgpu frees its copies on the host.
async fn settle(context: &Context) -> Result<()> {
    context.checked("uploading weights", || {
        context.submit([]);
        Ok(())
    })?;
    context.done("uploading weights").await
}
