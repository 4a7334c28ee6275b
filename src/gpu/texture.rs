//! Copies between a host's textures and tensors, recorded as compute passes into the host's encoder.

use super::context::Context;
use crate::error::{Error, Result};
use crate::graph::Kernel;
use crate::kernels::{TEXTURE_SIDE, texture_read, texture_write};

/// The texture formats whose first channel the engine can read.
const READABLE: [wgpu::TextureFormat; 3] = [wgpu::TextureFormat::R32Float, wgpu::TextureFormat::R16Float, wgpu::TextureFormat::Rgba8Unorm];

/// The texture format that the engine can write.
const WRITTEN: wgpu::TextureFormat = wgpu::TextureFormat::Rgba16Float;

/// The operation that the texts of errors begin with.
const PREPARING: &str = "preparing a copy of a texture";

/// A pipeline that copies a texture into a buffer, or a buffer into a texture.
#[derive(Debug)]
pub(crate) struct TextureCopy {
    context: Context,
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
    reads: bool,
}

impl TextureCopy {
    /// Prepares a copy of the first channel of a texture [H, W] into a buffer [H, W] of f32.
    ///
    /// # Errors
    /// If the device refuses the shader or is lost.
    pub async fn reader(context: &Context) -> Result<Self> {
        let sample_type = wgpu::TextureSampleType::Float { filterable: false };
        let view_dimension = wgpu::TextureViewDimension::D2;
        let texture = wgpu::BindingType::Texture { sample_type, view_dimension, multisampled: false };
        Self::new(context, &texture_read(), [texture, storage(false)], true).await
    }

    /// Prepares a copy of a buffer [H, W, `channels`] of f32 into a texture [H, W].
    ///
    /// # Errors
    /// As [`TextureCopy::reader`].
    pub async fn writer(context: &Context, channels: usize) -> Result<Self> {
        let (access, view_dimension) = (wgpu::StorageTextureAccess::WriteOnly, wgpu::TextureViewDimension::D2);
        let texture = wgpu::BindingType::StorageTexture { access, format: WRITTEN, view_dimension };
        Self::new(context, &texture_write(channels), [storage(true), texture], false).await
    }

    async fn new(context: &Context, kernel: &Kernel, kinds: [wgpu::BindingType; 2], reads: bool) -> Result<Self> {
        let prepare = || {
            let layout = context.bind_group_layout(kernel.name, kinds);
            let module = context.shader(kernel.name, kernel.source(), false);
            let pipeline_layout = context.pipeline_layout(kernel.name, &layout);
            let pipeline = context.compute_pipeline(kernel.name, &pipeline_layout, &module, wgpu::PipelineCompilationOptions::default());
            Ok(Self { context: context.clone(), layout, pipeline, reads })
        };
        context.checked_async(PREPARING, prepare).await
    }

    /// Records the copy between `buffer` and a whole two-dimensional texture of [`height`, `width`] texels.
    ///
    /// # Errors
    /// If the texture has another size or format or lacks the usage, or if the device is out of memory or lost.
    pub fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: wgpu::BufferBinding<'_>,
        view: &wgpu::TextureView,
        [height, width]: [usize; 2],
    ) -> Result<()> {
        self.check(view.texture(), [height, width])?;
        let buffer = wgpu::BindingResource::Buffer(buffer);
        let texture = wgpu::BindingResource::TextureView(view);
        let resources = if self.reads { [texture, buffer] } else { [buffer, texture] };
        let context = &self.context;
        let bind_group = context.checked("binding a texture", || Ok(context.bind_group("meddino texture", &self.layout, resources)))?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("meddino texture"), timestamp_writes: None });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups((width as u32).div_ceil(TEXTURE_SIDE), (height as u32).div_ceil(TEXTURE_SIDE), 1);
        Ok(())
    }

    fn check(&self, texture: &wgpu::Texture, [height, width]: [usize; 2]) -> Result<()> {
        let refuse = |problem: String| Err(Error::option("texture", problem));
        let size = [texture.height() as usize, texture.width() as usize];
        if size != [height, width] || texture.dimension() != wgpu::TextureDimension::D2 || texture.sample_count() != 1 {
            return refuse(format!(
                "it has {} x {} texels ({:?}, {} samples); expected {height} x {width}, two-dimensional, one sample",
                size[0],
                size[1],
                texture.dimension(),
                texture.sample_count()
            ));
        }
        let (formats, usage) = if self.reads {
            (&READABLE[..], wgpu::TextureUsages::TEXTURE_BINDING)
        } else {
            (&[WRITTEN][..], wgpu::TextureUsages::STORAGE_BINDING)
        };
        if !formats.contains(&texture.format()) {
            return refuse(format!("its format is {:?}; expected one of {formats:?}", texture.format()));
        }
        if !texture.usage().contains(usage) {
            return refuse(format!("its usage is {:?}; create it with {usage:?} too", texture.usage()));
        }
        Ok(())
    }
}

fn storage(read_only: bool) -> wgpu::BindingType {
    wgpu::BindingType::Buffer { ty: wgpu::BufferBindingType::Storage { read_only }, has_dynamic_offset: false, min_binding_size: None }
}
