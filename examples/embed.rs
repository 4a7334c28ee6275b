//! A host that owns its wgpu device, draws with it, and computes features of what it draws, without a window:
//! `cargo run --release --example embed [PICTURE [CHECKPOINT]]`.
//!
//! The host keeps drawing frames while the model runs. Each frame draws the slice and runs a part of the pass. At the
//! end, one submission draws the slice, computes maps of the tokens, and overlays them with a shader of the host. The
//! picture is written to `embed.png`, or to the first argument. The second argument names a checkpoint.

use std::error::Error;
use std::time::{Duration, Instant};

use meddino::Tensor;
use meddino::ct::Volume;
use meddino::embedding::{self, Components, Context, Gpu, MapTexture, Pass, PassSettings, Readback, Similarity, SliceInput, SliceSource};
use meddino::maps::Moments;
use meddino::vit::source::ModelSource;

/// The part of a frame that the model may use: half of it, at 60 frames a second.
const BUDGET: Duration = Duration::from_millis(8);

/// The patch that others are compared with, in the heart of the phantom.
const CHOSEN: (usize, usize) = (13, 17);

/// Three panels side by side: the slice in gray, and over the second and third panel the maps of the tokens.
const SHADERS: &str = "
struct Shape { height: u32, width: u32, rows: u32, cols: u32, prefix: u32, patch_size: u32, chosen: u32, pad: u32 }
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> slice: array<f32>; // HU [height, width]
@group(0) @binding(2) var<storage, read> scores: array<f32>; // [prefix + rows cols, 3]
@group(0) @binding(3) var similarity: texture_2d<f32>; // [height, width]

@vertex fn corners(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
    return vec4<f32>(f32(i & 1u) * 4.0 - 1.0, f32(i >> 1u) * 4.0 - 1.0, 0.0, 1.0);
}

@fragment fn background(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
    let x = u32(at.x) % shape.width;
    let gray = clamp((slice[u32(at.y) * shape.width + x] + 500.0) / 1000.0, 0.0, 1.0);
    return vec4<f32>(vec3<f32>(gray), 1.0);
}

@fragment fn overlay(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
    let panel = u32(at.x) / shape.width;
    let pixel = vec2<u32>(u32(at.x) % shape.width, u32(at.y));
    let cell = pixel / shape.patch_size;
    if panel == 0u || cell.x >= shape.cols || cell.y >= shape.rows {
        discard;
    }
    let patch_index = cell.y * shape.cols + cell.x;
    if panel == 1u {
        let row = 3u * (shape.prefix + patch_index);
        let score = vec3<f32>(scores[row], scores[row + 1u], scores[row + 2u]);
        return vec4<f32>(clamp(0.5 + score / 4.0, vec3<f32>(0.0), vec3<f32>(1.0)), 0.6);
    }
    let alike = textureLoad(similarity, pixel, 0).x;
    let colour = mix(vec3<f32>(0.1, 0.1, 0.5), vec3<f32>(1.0, 0.9, 0.2), alike);
    return select(vec4<f32>(colour, 0.6), vec4<f32>(1.0, 0.0, 0.0, 0.8), patch_index == shape.chosen);
}";

/// The program around the model.
struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
    background: wgpu::RenderPipeline,
    overlay: wgpu::RenderPipeline,
    /// The height and width of the slice. The screen is three times as wide.
    size: (usize, usize),
    screen: wgpu::Texture,
    slice: wgpu::Buffer,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "embed.png".into());
    let checkpoint = arguments.next().unwrap_or_else(|| "seeded:0:tiny".into());
    let host = Host::new(&Volume::phantom().read_slice(0)?)?;

    // Loads the model onto the host's device.
    let model = ModelSource::parse(&checkpoint).and_then(|source| source.open())?;
    let context = Context::from_host(host.device.clone(), host.queue.clone())?;
    let gpu = Gpu::open(&context, &model)?;
    let settings = PassSettings { frame: Some(BUDGET), ..PassSettings::new(SliceInput::new(host.size.0, host.size.1)) };
    let mut pass = Pass::new(&gpu, &settings)?;
    let (layout, loaded) = (pass.layout(), gpu.context().submissions());

    // Keeps drawing frames while the model runs.
    let shape = host.shape(&pass);
    let (mut frames, mut longest, mut tokens) = (0, Duration::ZERO, None);
    let start = Instant::now();
    while tokens.is_none() {
        let frame_start = Instant::now();
        let mut encoder = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        host.draw(&mut encoder, &host.background, &host.background_group(&shape), wgpu::LoadOp::Clear(wgpu::Color::BLACK));
        if frames == 0 {
            pass.encode_slice(&mut encoder, 0, SliceSource::Buffer { buffer: &host.slice, offset: 0 })?;
        }
        if pass.encode_some(&mut encoder, BUDGET).is_finished() {
            tokens = Some(pass.read(&mut encoder));
        }
        host.show(encoder)?;
        (frames, longest) = (frames + 1, longest.max(frame_start.elapsed()));
    }
    println!(
        "{} tokens of {} in {frames} frames, {:?}; the longest frame took {longest:?}",
        layout.tokens,
        layout.channels,
        start.elapsed()
    );

    // Fits the colours on the CPU, from the tokens that the pass has read back.
    let features = pollster::block_on(tokens.ok_or("the pass is through")?)?;
    let mut moments = Moments::new(layout.channels);
    moments.add(&features.patches());
    let scores = Components::new(&pass.map(), &moments.basis()?)?;
    let similarity = Similarity::new(&pass.map())?;
    let picture = MapTexture::new(similarity.map(), 0, &pass.mesh(), (0.0, 1.0))?;
    let usage = wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::TEXTURE_BINDING;
    let alike = texture(&host.device, host.size, wgpu::TextureFormat::Rgba16Float, usage);
    let alike = alike.create_view(&wgpu::TextureViewDescriptor::default());

    // One submission: the host draws, meddino computes, and the host's shader reads the results.
    let mut encoder = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    host.draw(&mut encoder, &host.background, &host.background_group(&shape), wgpu::LoadOp::Clear(wgpu::Color::BLACK));
    scores.encode(&mut encoder);
    similarity.encode(&mut encoder, layout.patch_row(0, CHOSEN.0 * layout.grid.cols + CHOSEN.1))?;
    picture.encode(&mut encoder, &alike)?;
    host.draw(&mut encoder, &host.overlay, &host.overlay_group(&shape, &scores.map().buffer, &alike), wgpu::LoadOp::Load);
    let pixels = host.copy_screen(&context, &mut encoder);
    host.show(encoder)?;
    println!("submissions besides the host's own: {}", gpu.context().submissions() - loaded);

    let pixels: Vec<u8> = pollster::block_on(pixels)?.into_iter().flat_map(f32::to_ne_bytes).collect();
    let (width, height) = (host.screen.width(), host.screen.height());
    let mut png = png::Encoder::new(std::io::BufWriter::new(std::fs::File::create(&path)?), width, height);
    png.set_color(png::ColorType::Rgba);
    png.set_depth(png::BitDepth::Eight);
    png.write_header()?.write_image_data(&pixels)?;
    println!("{width} x {height} pixels in {path}");
    Ok(())
}

impl Host {
    /// Opens a device with the features and limits that meddino asks for, a screen, and a slice [H, W] in HU.
    fn new(slice: &Tensor) -> Result<Self, Box<dyn Error>> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
        let (device, queue) = pollster::block_on(adapter.request_device(&embedding::descriptor(&adapter)?))?;
        let size = (slice.rows(), slice.cols());
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = filled(&device, &queue, usage, bytemuck::cast_slice(slice.data()));
        let source = wgpu::ShaderSource::Wgsl(SHADERS.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = |entry: &str, blend: Option<wgpu::BlendState>| {
            device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
                label: Some(entry),
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
                    entry_point: Some(entry),
                    compilation_options: wgpu::PipelineCompilationOptions::default(),
                    targets: &[Some(wgpu::ColorTargetState {
                        format: wgpu::TextureFormat::Rgba8Unorm,
                        blend,
                        write_mask: wgpu::ColorWrites::ALL,
                    })],
                }),
                multiview_mask: None,
                cache: None,
            })
        };
        let usage = wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC;
        Ok(Self {
            background: pipeline("background", None),
            overlay: pipeline("overlay", Some(wgpu::BlendState::ALPHA_BLENDING)),
            screen: texture(&device, (size.0, 3 * size.1), wgpu::TextureFormat::Rgba8Unorm, usage),
            slice: buffer,
            size,
            device,
            queue,
        })
    }

    /// The uniform of the host's shaders.
    fn shape(&self, pass: &Pass) -> wgpu::Buffer {
        let (grid, prefix) = (pass.layout().grid, pass.layout().prefix);
        let chosen = CHOSEN.0 * grid.cols + CHOSEN.1;
        let side = self.size.0 / grid.rows;
        let words = [self.size.0, self.size.1, grid.rows, grid.cols, prefix, side, chosen, 0].map(|word| word as u32);
        filled(&self.device, &self.queue, wgpu::BufferUsages::UNIFORM, bytemuck::cast_slice(&words))
    }

    fn background_group(&self, shape: &wgpu::Buffer) -> wgpu::BindGroup {
        self.group(&self.background, [(0, shape.as_entire_binding()), (1, self.slice.as_entire_binding())])
    }

    fn overlay_group(&self, shape: &wgpu::Buffer, scores: &wgpu::Buffer, alike: &wgpu::TextureView) -> wgpu::BindGroup {
        let alike = wgpu::BindingResource::TextureView(alike);
        self.group(&self.overlay, [(0, shape.as_entire_binding()), (2, scores.as_entire_binding()), (3, alike)])
    }

    fn group<const N: usize>(&self, pipeline: &wgpu::RenderPipeline, resources: [(u32, wgpu::BindingResource<'_>); N]) -> wgpu::BindGroup {
        let entries = resources.map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource });
        let layout = pipeline.get_bind_group_layout(0);
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries })
    }

    /// Records a render pass over the whole screen.
    fn draw(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        pipeline: &wgpu::RenderPipeline,
        group: &wgpu::BindGroup,
        load: wgpu::LoadOp<wgpu::Color>,
    ) {
        let view = self.screen.create_view(&wgpu::TextureViewDescriptor::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load, store: wgpu::StoreOp::Store },
            })],
            ..Default::default()
        });
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.draw(0..3, 0..1);
    }

    /// Records the readback of the screen. Its rows must be multiples of 256 bytes.
    fn copy_screen(&self, context: &Context, encoder: &mut wgpu::CommandEncoder) -> Readback {
        let bytes_per_row = 4 * self.screen.width();
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let size = u64::from(bytes_per_row * self.screen.height());
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(bytes_per_row), rows_per_image: None };
        let to = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout };
        encoder.copy_texture_to_buffer(self.screen.as_image_copy(), to, self.screen.size());
        Readback::encode(context, encoder, &buffer)
    }

    /// Submits and polls, as the host's own loop. With a window, presenting would pace the frames.
    fn show(&self, encoder: wgpu::CommandEncoder) -> Result<(), wgpu::PollError> {
        self.queue.submit([encoder.finish()]);
        self.device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ())
    }
}

fn filled(device: &wgpu::Device, queue: &wgpu::Queue, usage: wgpu::BufferUsages, bytes: &[u8]) -> wgpu::Buffer {
    let usage = usage | wgpu::BufferUsages::COPY_DST;
    let size = bytes.len() as u64;
    let buffer = device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    queue.write_buffer(&buffer, 0, bytes);
    buffer
}

fn texture(
    device: &wgpu::Device,
    (height, width): (usize, usize),
    format: wgpu::TextureFormat,
    usage: wgpu::TextureUsages,
) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
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
