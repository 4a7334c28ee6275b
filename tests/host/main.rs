//! meddino on a host's wgpu device: the host's passes and ours share one submission, the host's shaders read our
//! buffers, and meddino submits and polls nothing.

#[path = "../device/mod.rs"]
mod device;
mod device_needs;
mod results;
mod sources;
mod submission;

use std::sync::{Mutex, MutexGuard, PoisonError};

use meddino::embedding::{self, Context, Gpu, Pass, Readback, TokenMap};
use meddino::vit::features::{Features, Request};
use meddino::vit::source::ModelSource;
use meddino::{Tensor, cpu};

/// Held while a test has a device, so that the tests of this file run one after another.
///
/// NVIDIA's driver (580, Linux) locks up the process if one thread destroys a device or an instance (`vkDestroyDevice`,
/// `eglTerminate`) while others use theirs: each waits inside the driver for another. Variables are dropped in reverse
/// order, so a test declares its [`Host`] first, and the lock outlives everything made from the device.
type Alone = MutexGuard<'static, ()>;

fn alone() -> Alone {
    static DEVICE: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind that could harm the next one.
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that owns its device.
struct Host {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// The last field, because fields are dropped in order.
    _alone: Alone,
}

fn adapter() -> Option<(Alone, wgpu::Adapter)> {
    let alone = alone();
    // Reports a skip, or fails if a GPU is required.
    device::context()?;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    Some((alone, pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).expect("an adapter")))
}

impl Host {
    fn new() -> Option<Self> {
        let (alone, adapter) = adapter()?;
        let (device, queue) =
            pollster::block_on(adapter.request_device(&embedding::descriptor(&adapter).expect("enough"))).expect("a device");
        Some(Self { adapter, device, queue, _alone: alone })
    }

    fn lend(&self) -> Context {
        Context::from_host(self.device.clone(), self.queue.clone()).expect("enough")
    }

    fn model(&self, source: &str) -> Gpu {
        let model = ModelSource::parse(source).and_then(|source| source.open()).expect("seeded weights");
        Gpu::new(&self.lend(), model.config(), &model.weights().expect("seeded weights")).expect("room")
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    fn buffer(&self, values: &[f32], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let size = 4 * values.len() as u64;
        let usage = usage | wgpu::BufferUsages::COPY_DST;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
        buffer
    }

    fn texture(&self, [height, width]: [usize; 2], format: wgpu::TextureFormat, usage: wgpu::TextureUsages) -> wgpu::Texture {
        self.device.create_texture(&wgpu::TextureDescriptor {
            label: None,
            size: wgpu::Extent3d { width: width as u32, height: height as u32, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage,
            view_formats: &[],
        })
    }

    fn filled(&self, [height, width]: [usize; 2], format: wgpu::TextureFormat, bytes: &[u8]) -> wgpu::Texture {
        let texture = self.texture([height, width], format, wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST);
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some((bytes.len() / height) as u32), rows_per_image: None };
        self.queue.write_texture(texture.as_image_copy(), bytes, layout, texture.size());
        texture
    }

    /// Records a render pass over the whole of `target` with this fragment shader, which may read storage buffers from
    /// binding 0 on.
    fn render(&self, encoder: &mut wgpu::CommandEncoder, target: &wgpu::Texture, fragment: &str, buffers: &[&wgpu::Buffer]) {
        let corners = "@vertex fn corners(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
            return vec4<f32>(f32(i & 1u) * 4.0 - 1.0, f32(i >> 1u) * 4.0 - 1.0, 0.0, 1.0);
        }";
        let source = wgpu::ShaderSource::Wgsl(format!("{corners}\n{fragment}").into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = self.device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: None,
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corners"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState::default(),
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("shade"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                targets: &[Some(target.format().into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let view = target.create_view(&wgpu::TextureViewDescriptor::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLACK), store: wgpu::StoreOp::Store },
            })],
            ..Default::default()
        });
        pass.set_pipeline(&pipeline);
        if !buffers.is_empty() {
            let resources =
                (0..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
            let entries: Vec<_> = resources.collect();
            let layout = pipeline.get_bind_group_layout(0);
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
            pass.set_bind_group(0, &group, &[]);
        }
        pass.draw(0..3, 0..1);
    }

    /// Records the host's own readback of a texture with `bytes` per texel. Its rows must be multiples of 256 bytes.
    fn copied(&self, encoder: &mut wgpu::CommandEncoder, texture: &wgpu::Texture, bytes: u32) -> wgpu::Buffer {
        let bytes_per_row = bytes * texture.width();
        assert!(bytes_per_row.is_multiple_of(256));
        let size = u64::from(bytes_per_row * texture.height());
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(bytes_per_row), rows_per_image: None };
        let to = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout };
        encoder.copy_texture_to_buffer(texture.as_image_copy(), to, texture.size());
        encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Read, .., |mapped| mapped.expect("mapped"));
        buffer
    }

    fn submit(&self, encoder: wgpu::CommandEncoder) {
        self.queue.submit([encoder.finish()]);
    }

    fn poll(&self) {
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
    }

    /// Submits the encoder, waits, and reads the map's values.
    fn finish(&self, mut encoder: wgpu::CommandEncoder, map: &TokenMap) -> Vec<f32> {
        let values = map.read(&mut encoder);
        self.submit(encoder);
        self.poll();
        pollster::block_on(values).expect("values")
    }

    /// Submits the encoder, waits, and reads the features of `pass`.
    fn features(&self, pass: &Pass, mut encoder: wgpu::CommandEncoder) -> Features {
        let features = pass.read(&mut encoder);
        self.submit(encoder);
        self.poll();
        pollster::block_on(features).expect("features")
    }

    fn image_of(&self, pass: &Pass, mut encoder: wgpu::CommandEncoder, context: &Context) -> Vec<f32> {
        let values = Readback::encode(context, &mut encoder, pass.image().0);
        self.submit(encoder);
        self.poll();
        pollster::block_on(values).expect("values")
    }
}

fn bytes_of<T: bytemuck::Pod>(buffer: &wgpu::Buffer) -> Vec<T> {
    bytemuck::pod_collect_to_vec(&buffer.get_mapped_range(..).expect("mapped"))
}

/// The HU that the host's shader `PAINT` writes at a pixel.
fn hu(x: usize, y: usize) -> f32 {
    ((x * 37 + y * 91 + x * y) % 2500) as f32 - 1250.0
}

fn slice([height, width]: [usize; 2]) -> Tensor {
    Tensor::new([height, width], (0..height * width).map(|i| hu(i % width, i / width)).collect::<Vec<_>>())
}

fn on_the_cpu(source: &str, image: &Tensor, request: &Request) -> Features {
    masked_on_the_cpu(source, image, None, request)
}

fn masked_on_the_cpu(source: &str, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Features {
    let model = ModelSource::parse(source).and_then(|source| source.open()).expect("seeded weights");
    let layers = cpu::layers(model.weights().expect("seeded weights"), cpu::FactorType::F32);
    cpu::forward(&layers, model.config(), image, mask, request).expect("features")
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.data().iter().map(|v| v.to_bits()).collect()
}
