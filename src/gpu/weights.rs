//! Parameters on the device: uploaded once, shared by the executables of every image size.

use std::collections::HashMap;

use super::context::Context;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The host bytes in flight while uploading: wgpu keeps a copy of what is written until the device has taken it.
const IN_FLIGHT: u64 = 64 << 20;

/// Buffers by parameter name, `blocks.3.attn.qkv.weight`.
#[derive(Clone, Debug, Default)]
pub struct GpuWeights {
    buffers: HashMap<String, wgpu::Buffer>,
}

impl GpuWeights {
    /// Uploads each tensor as it comes; besides the caller's tensor no more than about 64 MiB are held on the host.
    ///
    /// # Errors
    /// If a tensor is larger than the device's largest buffer, or the device is out of memory or lost.
    pub fn upload<'a>(context: &Context, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Self> {
        let mut weights = Self::default();
        let mut in_flight = 0;
        for (name, tensor) in tensors {
            let bytes: &[u8] = bytemuck::cast_slice(tensor.data());
            let size = bytes.len() as u64;
            if size > context.limits().max_buffer {
                return Err(Error::gpu(format!(
                    "{name} takes {size} bytes, and this device's largest buffer is {}; use --backend cpu",
                    context.limits().max_buffer
                )));
            }
            let buffer = context.checked(&format!("uploading {name}"), || {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
                let buffer = context.device().create_buffer(&descriptor);
                context.queue().write_buffer(&buffer, 0, bytes);
                Ok(buffer)
            })?;
            weights.buffers.insert(name.to_owned(), buffer);
            in_flight += size;
            if in_flight > IN_FLIGHT {
                settle(context)?;
                in_flight = 0;
            }
        }
        settle(context)?;
        Ok(weights)
    }

    /// The buffer of a parameter.
    pub fn get(&self, name: &str) -> Option<&wgpu::Buffer> {
        self.buffers.get(name)
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.buffers.values().map(wgpu::Buffer::size).sum()
    }
}

/// Lets the device take what was written, so that the host's copies are freed.
fn settle(context: &Context) -> Result<()> {
    context.checked("uploading weights", || {
        context.queue().submit([]);
        Ok(())
    })?;
    context.wait("uploading weights")
}
