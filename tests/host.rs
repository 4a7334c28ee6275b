//! meddino on a host's wgpu device: the host's passes and ours share one submission, the host's shaders read our
//! buffers, and meddino submits and polls nothing.

mod device;

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use meddino::Tensor;
use meddino::cpu;
use meddino::ct::{Size, Window, prepare};
use meddino::embedding::{
    self, Components, Context, Gpu, ImageInput, MapTexture, Pass, PassProgress, PassSettings, Readback, Reading, Similarity, SliceInput,
    SliceSource, TokenMap,
};
use meddino::gpu::Executable;
use meddino::maps::{Moments, cosine};
use meddino::tensor::relative_l2;
use meddino::vit::features::{Features, Request};
use meddino::vit::source::ModelSource;

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

const PAINT: &str = "@fragment fn shade(@builtin(position) p: vec4<f32>) -> @location(0) f32 {
    let at = vec2<u32>(p.xy);
    return f32((at.x * 37u + at.y * 91u + at.x * at.y) % 2500u) - 1250.0;
}";

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

#[test]
fn one_submission_renders_computes_and_displays() {
    let Some(host) = Host::new() else { return };
    let (size, source) = ([80, 96], "seeded:0:tiny");
    let gpu = host.model(source);
    let before = (gpu.context().submissions(), gpu.context().polls());
    assert!(before.0 > 0 && before.1 > 0, "loading submits and waits, and is counted");
    let request = Request { layers: vec![0], prenorm: true, taps: false };
    let input = SliceInput { size: Size::Exact { height: 64, width: 70 }, ..SliceInput::new(size[0], size[1]) };
    let settings = PassSettings { request: request.clone(), ..PassSettings::new(input) };
    let mut pass = Pass::new(&gpu, &settings).expect("a pass");
    let layout = pass.layout();

    // The host paints a slice, meddino computes its tokens, and a host shader draws them as a picture [T, C].
    let usage = wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::TEXTURE_BINDING;
    let painted = host.texture(size, wgpu::TextureFormat::R32Float, usage);
    let shown = [(); 3].map(|()| {
        let usage = wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC;
        host.texture([layout.tokens, layout.channels], wgpu::TextureFormat::R32Float, usage)
    });
    let show = format!(
        "@group(0) @binding(0) var<storage, read> tokens: array<f32>;
        @fragment fn shade(@builtin(position) p: vec4<f32>) -> @location(0) f32 {{
            return tokens[u32(p.y) * {}u + u32(p.x)];
        }}",
        layout.channels
    );
    let mut encoder = host.encoder();
    host.render(&mut encoder, &painted, PAINT, &[]);
    pass.encode_slice(&mut encoder, 0, SliceSource::Texture(&painted.create_view(&wgpu::TextureViewDescriptor::default())))
        .expect("a slice");
    pass.encode(&mut encoder);
    let buffers = [pass.tokens(), pass.layer(0).expect("asked for"), pass.prenorm().expect("asked for")];
    for (target, tokens) in shown.iter().zip(buffers) {
        host.render(&mut encoder, target, &show, &[tokens]);
    }
    let copies = shown.each_ref().map(|texture| host.copied(&mut encoder, texture, 4));
    let features = pass.read(&mut encoder);
    host.submit(encoder);
    host.poll();
    assert_eq!((gpu.context().submissions(), gpu.context().polls()), before, "meddino submits and polls nothing");
    assert!(pass.layer(1).is_none());

    let image = prepare(&slice(size), &input.window, input.size);
    let want = on_the_cpu(source, &image, &request);
    let want = [&want.x_norm, &want.layers[0].1, want.x_prenorm.as_ref().expect("asked for")];
    for (copy, want) in copies.iter().zip(want) {
        let error = relative_l2(&bytes_of::<f32>(copy), want.data());
        assert!(error < 2e-4, "the host sees tokens {error:.1e} from the CPU's");
    }
    let features = pollster::block_on(features).expect("features");
    let features = [&features.x_norm, &features.layers[0].1, features.x_prenorm.as_ref().expect("asked for")];
    for (copy, features) in copies.iter().zip(features) {
        assert_eq!(features.data(), bytes_of::<f32>(copy));
    }
    assert_eq!((layout.tokens, layout.prefix, layout.channels), (5 + 16, 5, 128));
}

#[test]
fn every_source_gives_the_image_of_the_cpu() {
    let Some(host) = Host::new() else { return };
    let gpu = host.model("seeded:0:micro");
    let from = [75, 64];
    let hu = slice(from);
    let at = |texture: &wgpu::Texture| texture.create_view(&wgpu::TextureViewDescriptor::default());
    let halves: Vec<half::f16> = hu.data().iter().map(|&v| half::f16::from_f32(v)).collect();
    let eights: Vec<u8> = (0..from[0] * from[1]).flat_map(|i| [(i * 7 % 256) as u8, 9, 99, 255]).collect();
    let bytes: Vec<u8> = hu.data().iter().flat_map(|v| v.to_le_bytes()).collect();
    let textures = [
        host.filled(from, wgpu::TextureFormat::R32Float, &bytes),
        host.filled(from, wgpu::TextureFormat::R16Float, bytemuck::cast_slice(&halves)),
        host.filled(from, wgpu::TextureFormat::Rgba8Unorm, &eights),
    ];
    let views = textures.each_ref().map(at);
    let padded = [&[f32::NAN; 3], hu.data(), &[f32::NAN; 2]].concat();
    let buffer = host.buffer(&padded, wgpu::BufferUsages::COPY_SRC);
    let half_hu = Tensor::new(from, halves.iter().map(|v| v.to_f32()).collect::<Vec<_>>());
    let eighth_hu = Tensor::new(from, eights.chunks_exact(4).map(|v| f32::from(v[0]) / 255.0 * 2400.0 - 1200.0).collect::<Vec<_>>());
    let cases = [
        ("buffer", SliceSource::Buffer { buffer: &buffer, offset: 12 }, (1.0, 0.0), &hu),
        ("R32Float", SliceSource::Texture(&views[0]), (1.0, 0.0), &hu),
        ("R16Float", SliceSource::Texture(&views[1]), (1.0, 0.0), &half_hu),
        ("Rgba8Unorm", SliceSource::Texture(&views[2]), (2400.0, -1200.0), &eighth_hu),
    ];
    let abdomen = Window { lo: -160.0, hi: 240.0, mean: 40.0, std: 80.5 };
    for size in [Size::Native, Size::Square(32), Size::Exact { height: 112, width: 97 }] {
        for window in [Window::DEMO, abdomen, Window::NONE] {
            for (name, source, rescale, hu) in cases {
                let input = SliceInput { size, window, rescale, ..SliceInput::new(from[0], from[1]) };
                let mut pass = Pass::new(&gpu, &PassSettings::new(input)).expect("a pass");
                let mut encoder = host.encoder();
                pass.encode_slice(&mut encoder, 0, source).expect("a slice");
                pass.encode(&mut encoder);
                let got = host.image_of(&pass, encoder, gpu.context());
                let error = relative_l2(&got, prepare(hu, &window, size).data());
                assert!(error <= 1e-6, "{name}, {size}, {window}: {error:.1e} from the CPU's");
            }
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let Some(host) = Host::new() else { return };
    let gpu = host.model("seeded:0:micro");
    let refused = |settings: PassSettings| Pass::new(&gpu, &settings).map(|_| ()).unwrap_err().to_string();
    let slices = |height, width| PassSettings::new(SliceInput::new(height, width));
    assert!(refused(slices(0, 64)).contains("0 x 64"));
    assert!(refused(slices(8, 64)).contains("hold no patch"));
    assert!(refused(PassSettings::new(SliceInput { rescale: (f32::NAN, 0.0), ..SliceInput::new(64, 64) })).contains("NaN"));
    assert!(refused(PassSettings { request: Request { layers: vec![2], ..Request::default() }, ..slices(64, 64) }).contains("no block 2"));
    assert!(refused(PassSettings { batch: 0, ..slices(64, 64) }).contains("0 of 64 x 64"));
    assert!(refused(PassSettings { batch: usize::MAX, ..slices(64, 64) }).contains("expected 1 to 16777216 rows"));
    assert!(refused(PassSettings::new(ImageInput { channels: 2, height: 64, width: 64 })).contains("[1, 2, 64, 64]"));
    let mut pass = Pass::new(&gpu, &PassSettings::new(SliceInput::new(64, 64))).expect("a pass");
    let mut encoder = host.encoder();
    let mut refused = |source: SliceSource<'_>| pass.encode_slice(&mut encoder, 0, source).unwrap_err().to_string();
    let buffer = host.buffer(&[0.0; 64 * 64], wgpu::BufferUsages::COPY_SRC);
    let closed = host.buffer(&[0.0; 64 * 64], wgpu::BufferUsages::STORAGE);
    assert!(refused(SliceSource::Buffer { buffer: &buffer, offset: 4 }).contains("do not fit its 16384 bytes"));
    assert!(refused(SliceSource::Buffer { buffer: &buffer, offset: u64::MAX - 3 }).contains("do not fit"));
    assert!(refused(SliceSource::Buffer { buffer: &closed, offset: 0 }).contains("COPY_SRC"));
    let view = |size, format, usage| host.texture(size, format, usage).create_view(&wgpu::TextureViewDescriptor::default());
    // A texture that is only copied may have no view in Vulkan.
    let (binding, target_only) = (wgpu::TextureUsages::TEXTURE_BINDING, wgpu::TextureUsages::RENDER_ATTACHMENT);
    assert!(refused(SliceSource::Texture(&view([64, 32], wgpu::TextureFormat::R32Float, binding))).contains("64 x 32 texels"));
    assert!(
        refused(SliceSource::Texture(&view([64, 64], wgpu::TextureFormat::R8Unorm, binding)))
            .contains("R8Unorm; expected one of [R32Float")
    );
    assert!(refused(SliceSource::Texture(&view([64, 64], wgpu::TextureFormat::R32Float, target_only))).contains("TEXTURE_BINDING"));
    let similarity = Similarity::new(&pass.map()).expect("room");
    assert!(similarity.encode(&mut encoder, 5 + 16).unwrap_err().to_string().contains("no token 21: there are 21"));
}

#[test]
fn a_device_with_too_low_limits_is_refused_by_name() {
    let Some((_alone, adapter)) = adapter() else { return };
    let required_limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::defaults() };
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
    let error = Context::from_host(device, queue).map(|_| ()).unwrap_err();
    assert!(matches!(error, meddino::Error::Gpu { kind: meddino::error::GpuFailure::Unsupported, .. }), "{error:?}");
    let refused = error.to_string();
    let expected = "max_storage_buffers_per_shader_stage is 4 and should be at least 6";
    assert!(refused.contains(expected) && refused.contains(&adapter.get_info().name), "{refused}");
    // f16 is optional: the context opens without it, and only a request for f16 fails.
    let plain = wgpu::DeviceDescriptor::default();
    let (device, queue) = pollster::block_on(adapter.request_device(&plain)).expect("a device");
    let context = Context::from_host(device, queue).expect("enough");
    let refused = context.tuned(meddino::graph::Elem::F16, None).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("have no f16"), "{refused}");
}

#[test]
fn the_descriptor_requests_every_wanted_feature() {
    let Some(host) = Host::new() else { return };
    let wanted = embedding::WANTED.iter().fold(wgpu::Features::empty(), |features, wanted| features | wanted.feature);
    assert_eq!(host.device.features(), host.adapter.features() & wanted);
    assert_eq!(host.device.limits().max_storage_buffer_binding_size, host.adapter.limits().max_storage_buffer_binding_size);
}

#[test]
fn two_models_share_a_device_and_a_submission() {
    let Some(host) = Host::new() else { return };
    let size = [64, 48];
    let buffer = host.buffer(slice(size).data(), wgpu::BufferUsages::COPY_SRC);
    let models = ["seeded:0:tiny", "seeded:3:micro"].map(|source| (source, host.model(source)));
    let mut encoder = host.encoder();
    let passes = models.each_ref().map(|(_, gpu)| {
        let mut pass = Pass::new(gpu, &PassSettings::new(SliceInput::new(size[0], size[1]))).expect("a pass");
        pass.encode_slice(&mut encoder, 0, SliceSource::Buffer { buffer: &buffer, offset: 0 }).expect("a slice");
        pass.encode(&mut encoder);
        let tokens = pass.read(&mut encoder);
        (pass, tokens)
    });
    host.submit(encoder);
    host.poll();
    for ((source, _), (_, tokens)) in models.iter().zip(passes) {
        let want = on_the_cpu(source, &prepare(&slice(size), &Window::DEMO, Size::Native), &Request::default()).x_norm;
        let error = relative_l2(pollster::block_on(tokens).expect("tokens").x_norm.data(), want.data());
        assert!(error < 2e-4, "{source}: {error:.1e}");
    }
}

#[test]
fn a_pass_in_pieces_keeps_to_its_budget_and_gives_the_same_bits() {
    let Some(host) = Host::new() else { return };
    let gpu = host.model("seeded:0:tiny");
    let size = [160, 176];
    let buffer = host.buffer(slice(size).data(), wgpu::BufferUsages::COPY_SRC);
    let source = SliceSource::Buffer { buffer: &buffer, offset: 0 };
    let settings = PassSettings::new(SliceInput::new(size[0], size[1]));
    let mut whole = Pass::new(&gpu, &settings).expect("a pass");
    let mut encoder = host.encoder();
    whole.encode_slice(&mut encoder, 0, source).expect("a slice");
    let start = whole.progress();
    assert!(start.done == 0 && !start.is_finished());
    whole.encode(&mut encoder);
    assert!(whole.progress().is_finished());
    let want = host.finish(encoder, &whole.map());
    let total = whole.planned_time(start, whole.progress()).expect("a speed was measured");

    let frame = total / 40;
    let mut fine_grained = Pass::new(&gpu, &PassSettings { frame: Some(frame), ..settings }).expect("a pass");
    assert!(
        fine_grained.progress().of > whole.progress().of,
        "dispatches are cut to the frame: {} of {}",
        fine_grained.progress().of,
        whole.progress().of
    );
    for (in_frames, budget) in [(false, total / 3), (false, total / 40), (false, Duration::ZERO), (true, frame)] {
        let pass = if in_frames { &mut fine_grained } else { &mut whole };
        let mut encoder = host.encoder();
        pass.encode_slice(&mut encoder, 0, source).expect("a slice");
        let (mut pieces, mut single, mut last) = (0, 0, pass.progress());
        while !last.is_finished() {
            let now = pass.encode_some(&mut encoder, budget);
            host.submit(std::mem::replace(&mut encoder, host.encoder()));
            let planned = pass.planned_time(last, now).expect("a speed was measured");
            // Times are rounded to nanoseconds, so a piece may exceed the budget by one nanosecond.
            let fits = planned <= budget + Duration::from_nanos(1);
            assert!(fits || now.done == last.done + 1, "{planned:?} of {budget:?} for dispatches {} to {}", last.done, now.done);
            // A dispatch that would still have fitted must not be left for the next piece.
            let one_more = PassProgress { done: now.done + 1, of: now.of };
            let would_fit = !now.is_finished() && pass.planned_time(last, one_more).expect("a speed") < budget;
            assert!(!would_fit, "dispatch {} would have fitted", now.done);
            single += usize::from(!fits);
            pieces += 1;
            last = now;
        }
        println!("{budget:?} of {total:?}: {} dispatches in {pieces} pieces, {single} beyond the budget", last.of);
        assert!(pieces >= 3);
        assert_eq!(pass.encode_some(&mut encoder, budget), last, "nothing is left");
        let got = host.finish(encoder, &pass.map());
        assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "other bits in pieces of {budget:?}");
    }
    // A new slice in the middle of a pass restarts the pass.
    let zeros = host.buffer(&vec![0.0; size[0] * size[1]], wgpu::BufferUsages::COPY_SRC);
    let mut encoder = host.encoder();
    whole.encode_slice(&mut encoder, 0, SliceSource::Buffer { buffer: &zeros, offset: 0 }).expect("a slice");
    whole.encode_some(&mut encoder, total / 3);
    whole.encode_slice(&mut encoder, 0, source).expect("a slice");
    while !whole.encode_some(&mut encoder, total / 3).is_finished() {}
    assert_eq!(host.finish(encoder, &whole.map()), want);
}

#[test]
fn maps_of_tokens_equal_the_cpu() {
    let Some(host) = Host::new() else { return };
    let gpu = host.model("seeded:0:tiny");
    let size = [96, 64];
    let buffer = host.buffer(slice(size).data(), wgpu::BufferUsages::COPY_SRC);
    let mut pass =
        Pass::new(&gpu, &PassSettings::new(SliceInput { size: Size::Square(80), ..SliceInput::new(size[0], size[1]) })).expect("a pass");
    let mut encoder = host.encoder();
    pass.encode_slice(&mut encoder, 0, SliceSource::Buffer { buffer: &buffer, offset: 0 }).expect("a slice");
    pass.encode(&mut encoder);
    let layout = pass.layout();
    let tokens = Tensor::new([layout.tokens, layout.channels], host.finish(encoder, &pass.map()));
    let token = |n: usize| &tokens.data()[n * layout.channels..(n + 1) * layout.channels];

    let similarity = Similarity::new(&pass.map()).expect("room");
    for chosen in [0, layout.prefix + 7, layout.tokens - 1] {
        let mut encoder = host.encoder();
        similarity.encode(&mut encoder, chosen).expect("a token");
        let got = host.finish(encoder, similarity.map());
        let error = relative_l2(&got, cosine(&tokens, token(chosen)).data());
        assert!(error < 1e-6 && (got[chosen] - 1.0).abs() < 1e-6, "token {chosen}: {error:.1e}");
    }
    // A query that is no token of the image.
    let elsewhere: Vec<f32> = token(3).iter().map(|v| 0.5 - v).collect();
    host.queue.write_buffer(similarity.query(), 0, bytemuck::cast_slice(&elsewhere));
    let mut encoder = host.encoder();
    similarity.encode_query(&mut encoder);
    let got = host.finish(encoder, similarity.map());
    assert!(relative_l2(&got, cosine(&tokens, &elsewhere).data()) < 1e-6);

    let mut moments = Moments::new(layout.channels);
    moments.add(&tokens);
    let basis = moments.basis().expect("directions");
    let scores = Components::new(&pass.map(), &basis).expect("room");
    let want = basis.scores(&tokens);
    // The map is drawn to a texture of the slice's size, interpolated at each pixel.
    let (mesh, range) = (pass.mesh(), (-1.5, 1.5));
    let picture = MapTexture::new(scores.map(), 0, &mesh, range).expect("room");
    let texture =
        host.texture(size, wgpu::TextureFormat::Rgba16Float, wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_SRC);
    let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
    let mut encoder = host.encoder();
    scores.encode(&mut encoder);
    picture.encode(&mut encoder, &view).expect("a texture");
    let home = host.copied(&mut encoder, &texture, 8);
    let got = host.finish(encoder, scores.map());
    let error = relative_l2(&got, want.data());
    assert!(error < 2e-6, "{error:.1e}");
    let painted: Vec<f32> = bytes_of::<half::f16>(&home).into_iter().map(half::f16::to_f32).collect();
    let inside = |v: f32| (v.clamp(range.0, range.1) - range.0) / (range.1 - range.0);
    for (i, texel) in painted.chunks_exact(4).enumerate() {
        let around = mesh.around((i % size[1]) as f64 + 0.5, (i / size[1]) as f64 + 0.5);
        let value = |k: usize| around.iter().flatten().map(|&(p, w)| w * inside(want.data()[(layout.prefix + p) * 3 + k])).sum::<f32>();
        for (k, &got) in texel.iter().enumerate() {
            let want = if k < 3 { value(k) } else { 1.0 };
            assert!((got - want).abs() < 6e-4, "texel {i} channel {k}: {got} for {want}");
        }
    }
    let refused = |usage, format, size| {
        let view = host.texture(size, format, usage).create_view(&wgpu::TextureViewDescriptor::default());
        picture.encode(&mut host.encoder(), &view).unwrap_err().to_string()
    };
    let storage = wgpu::TextureUsages::STORAGE_BINDING;
    assert!(refused(storage, wgpu::TextureFormat::Rgba8Unorm, size).contains("Rgba16Float"));
    assert!(refused(wgpu::TextureUsages::RENDER_ATTACHMENT, wgpu::TextureFormat::Rgba16Float, size).contains("STORAGE_BINDING"));
    assert!(refused(storage, wgpu::TextureFormat::Rgba16Float, [64, 64]).contains("expected 96 x 64"));
    assert!(MapTexture::new(&pass.map(), 0, &mesh, range).unwrap_err().to_string().contains("128 channels"));
    assert!(MapTexture::new(scores.map(), 0, &mesh, (1.0, 1.0)).unwrap_err().to_string().contains("1 to 1"));
    let mut narrow = Moments::new(2);
    narrow.add(&Tensor::new([3, 2], vec![0.0, 1.0, 2.0, 5.0, 7.0, 8.0]));
    assert!(Components::new(&pass.map(), &narrow.basis().expect("directions")).unwrap_err().to_string().contains("2 wide"));
}

/// Follows a browser's rules: a caller may not block, so it polls the future again until it is ready.
#[test]
fn a_readback_is_pending_until_the_host_polls() {
    let Some(host) = Host::new() else { return };
    let gpu = host.model("seeded:0:micro");
    let mut pass = Pass::new(&gpu, &PassSettings::new(SliceInput::new(32, 32))).expect("a pass");
    let buffer = host.buffer(slice([32, 32]).data(), wgpu::BufferUsages::COPY_SRC);
    let mut encoder = host.encoder();
    pass.encode_slice(&mut encoder, 0, SliceSource::Buffer { buffer: &buffer, offset: 0 }).expect("a slice");
    pass.encode(&mut encoder);
    let mut values = Box::pin(pass.read(&mut encoder));
    let mut task = Task::from_waker(Waker::noop());
    assert!(values.as_mut().poll(&mut task).is_pending());
    host.submit(encoder);
    let tokens = loop {
        match values.as_mut().poll(&mut task) {
            Poll::Ready(tokens) => break tokens.expect("tokens"),
            Poll::Pending => host.device.poll(wgpu::PollType::Poll).map(|_| std::thread::yield_now()).expect("a device"),
        }
    };
    let want = on_the_cpu("seeded:0:micro", &prepare(&slice([32, 32]), &Window::DEMO, Size::Native), &Request::default());
    assert!(relative_l2(tokens.x_norm.data(), want.x_norm.data()) < 2e-4);
}

/// A pass can move to another thread, as wgpu's objects can.
#[test]
fn the_embedding_types_may_move_between_threads() {
    fn assert_send_and_sync<T: Send + Sync>() {}
    assert_send_and_sync::<Context>();
    assert_send_and_sync::<Gpu>();
    assert_send_and_sync::<Executable>();
    assert_send_and_sync::<Pass>();
    assert_send_and_sync::<Similarity>();
    assert_send_and_sync::<Components>();
    assert_send_and_sync::<MapTexture>();
    assert_send_and_sync::<Readback>();
    assert_send_and_sync::<Reading>();
    let Some(host) = Host::new() else { return };
    let gpu = std::thread::scope(|scope| scope.spawn(|| host.model("seeded:0:micro")).join().expect("loaded elsewhere"));
    let mut pass = std::thread::spawn(move || Pass::new(&gpu, &PassSettings::new(SliceInput::new(32, 32))).expect("a pass"))
        .join()
        .expect("prepared elsewhere");
    let mut encoder = host.encoder();
    host.queue.write_buffer(pass.input(), 0, bytemuck::cast_slice(slice([32, 32]).data()));
    pass.restart();
    while !pass.encode_some(&mut encoder, Duration::from_millis(2)).is_finished() {}
    let got = host.finish(encoder, &pass.map());
    let want = on_the_cpu("seeded:0:micro", &prepare(&slice([32, 32]), &Window::DEMO, Size::Native), &Request::default());
    assert!(relative_l2(&got, want.x_norm.data()) < 2e-4);
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.data().iter().map(|v| v.to_bits()).collect()
}

/// Several different slices of ragged size.
fn slices(batch: usize, [height, width]: [usize; 2]) -> Vec<Tensor> {
    let value = |at: usize, i: usize| hu(i % width + 13 * at, i / width + 7 * at);
    (0..batch).map(|at| Tensor::new([height, width], (0..height * width).map(|i| value(at, i)).collect::<Vec<_>>())).collect()
}

/// Images [1, 1, H, W] as one batch.
fn stacked(images: &[Tensor]) -> Tensor {
    let &[_, _, height, width] = images[0].shape() else { panic!("images are [1, 1, H, W]") };
    Tensor::new([images.len(), 1, height, width], images.iter().flat_map(|image| image.data().to_vec()).collect::<Vec<_>>())
}

/// The values of image `at` of a batch.
fn part(x: &Tensor, at: usize) -> &[f32] {
    let len = x.data().len() / x.shape()[0];
    &x.data()[at * len..(at + 1) * len]
}

#[test]
fn a_batch_gives_the_results_of_its_slices() {
    let Some(host) = Host::new() else { return };
    let source = "seeded:0:micro";
    let gpu = host.model(source);
    let (batch, size, request) = (3, [75, 63], Request { layers: vec![0], ..Request::default() });
    let slices = slices(batch, size);
    for image_size in [Size::Native, Size::Exact { height: 49, width: 130 }] {
        let input = SliceInput { size: image_size, ..SliceInput::new(size[0], size[1]) };
        let settings = PassSettings { request: request.clone(), ..PassSettings::new(input) };
        let mut pass = Pass::new(&gpu, &PassSettings { batch, ..settings.clone() }).expect("a pass");
        let mut alone = Pass::new(&gpu, &settings).expect("a pass");
        let layout = pass.layout();
        assert_eq!((layout.images, alone.layout().images), (batch, 1));
        let alignment = host.device.limits().min_storage_buffer_offset_alignment.into();
        assert!((0..batch).all(|at| pass.offset(at).is_multiple_of(alignment)), "each slice can be bound on its own");

        // One slice from each kind of source: a buffer, a texture, and the pass's input, which shaders or memory may
        // fill.
        let buffer = host.buffer(slices[0].data(), wgpu::BufferUsages::COPY_SRC);
        let bytes: Vec<u8> = slices[1].data().iter().flat_map(|v| v.to_le_bytes()).collect();
        let texture = host.filled(size, wgpu::TextureFormat::R32Float, &bytes);
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        host.queue.write_buffer(pass.input(), pass.offset(2), bytemuck::cast_slice(slices[2].data()));
        let mut encoder = host.encoder();
        pass.encode_slice(&mut encoder, 0, SliceSource::Buffer { buffer: &buffer, offset: 0 }).expect("a slice");
        pass.encode_slice(&mut encoder, 1, SliceSource::Texture(&view)).expect("a slice");
        assert!(pass.encode_slice(&mut encoder, 3, SliceSource::Texture(&view)).unwrap_err().to_string().contains("no slice 3"));
        pass.encode(&mut encoder);
        let got = host.features(&pass, encoder);
        let images = host.image_of(&pass, host.encoder(), gpu.context());

        let prepared: Vec<Tensor> = slices.iter().map(|slice| prepare(slice, &input.window, input.size)).collect();
        let want = on_the_cpu(source, &stacked(&prepared), &request);
        for (got, want) in [(&got.x_norm, &want.x_norm), (&got.layers[0].1, &want.layers[0].1)] {
            assert_eq!(got.shape(), want.shape());
            let error = relative_l2(got.data(), want.data());
            assert!(error < 2e-4, "{image_size}: {error:.1e} from the CPU's");
        }
        // The same batch in one write from the host's memory.
        let all_slices: Vec<f32> = slices.iter().flat_map(|slice| slice.data().to_vec()).collect();
        assert!(pass.write(&all_slices[1..]).unwrap_err().to_string().contains("expected 3 x 4725"));
        pass.write(&all_slices).expect("slices");
        let mut encoder = host.encoder();
        pass.encode(&mut encoder);
        assert_eq!(bits(&host.features(&pass, encoder).x_norm), bits(&got.x_norm), "{image_size}: written from the host's memory");
        // Each slice on its own.
        for (at, slice) in slices.iter().enumerate() {
            alone.write(slice.data()).expect("a slice");
            let mut encoder = host.encoder();
            alone.encode(&mut encoder);
            let single = host.features(&alone, encoder);
            let len = images.len() / batch;
            assert_eq!(host.image_of(&alone, host.encoder(), gpu.context()), images[at * len..(at + 1) * len], "{image_size}: image {at}");
            assert_eq!(part(&single.x_norm, 0), part(&got.x_norm, at), "{image_size}: tokens of image {at}");
        }

        // A map's rows are the tokens of all images.
        let mesh = pass.mesh();
        let (image, patch) = (1, layout.grid.patches() - 1);
        let similarity = Similarity::new(&pass.map()).expect("room");
        let textures = [0, 1, 2].map(|at| MapTexture::new(similarity.map(), at, &mesh, (-1.0, 1.0)).expect("room"));
        let mut encoder = host.encoder();
        similarity.encode(&mut encoder, layout.patch_row(image, patch)).expect("a token");
        let shown = host.texture(size, wgpu::TextureFormat::Rgba16Float, wgpu::TextureUsages::STORAGE_BINDING);
        let shown = shown.create_view(&wgpu::TextureViewDescriptor::default());
        let pixels = textures.each_ref().map(|texture| {
            texture.encode(&mut encoder, &shown).expect("a texture");
            Readback::encode(gpu.context(), &mut encoder, texture.pixels())
        });
        let alike = host.finish(encoder, similarity.map());
        let rows = Tensor::new([layout.images * layout.tokens, layout.channels], got.x_norm.data().to_vec());
        let row = layout.patch_row(image, patch);
        assert_eq!(row, layout.tokens + layout.prefix + patch);
        let query = &rows.data()[row * layout.channels..][..layout.channels];
        assert!(relative_l2(&alike, cosine(&rows, query).data()) < 1e-6);
        for (at, pixels) in pixels.into_iter().enumerate() {
            let pixels = pollster::block_on(pixels).expect("pixels");
            let first = alike[layout.patch_row(at, 0)];
            assert!((pixels[0] - first.midpoint(1.0)).abs() < 1e-6, "image {at} begins with {} for {first}", pixels[0]);
        }
        assert!(MapTexture::new(similarity.map(), 3, &mesh, (-1.0, 1.0)).unwrap_err().to_string().contains("no image 3"));
    }
}

#[test]
fn masked_patches_become_the_mask_token() {
    let Some(host) = Host::new() else { return };
    let source = "seeded:0:micro";
    let gpu = host.model(source);
    let (batch, size, request) = (2, [50, 83], Request { prenorm: true, ..Request::default() });
    let prepared: Vec<Tensor> = slices(batch, size).iter().map(|slice| prepare(slice, &Window::DEMO, Size::Native)).collect();
    let images = stacked(&prepared);
    let input = ImageInput { channels: 1, height: size[0], width: size[1] };
    let settings = PassSettings { batch, request: request.clone(), ..PassSettings::new(input) };
    let mut plain = Pass::new(&gpu, &settings).expect("a pass");
    let mut pass = Pass::new(&gpu, &PassSettings { masked: true, ..settings }).expect("a pass");
    let run = |pass: &mut Pass, mut encoder: wgpu::CommandEncoder| {
        pass.encode(&mut encoder);
        host.features(pass, encoder)
    };
    pass.write(images.data()).expect("images");
    plain.write(images.data()).expect("images");
    let unmasked = run(&mut plain, host.encoder());
    assert_eq!(bits(&run(&mut pass, host.encoder()).x_norm), bits(&unmasked.x_norm), "at first nothing is masked");

    let patches = batch * pass.layout().grid.patches();
    let mask = |nth: usize| -> Vec<bool> { (0..patches).map(|i| i % nth == 1).collect() };
    let check = |got: &Features, mask: &[bool]| {
        let want = masked_on_the_cpu(source, &images, Some(mask), &request);
        let error = relative_l2(got.x_norm.data(), want.x_norm.data());
        assert!(error < 2e-4, "{error:.1e} from the CPU's");
        let want = gpu.forward(&images, Some(mask), &request).expect("features");
        assert_eq!(bits(&got.x_norm), bits(&want.x_norm), "other bits than the same kernels give");
        assert_eq!(bits(got.x_prenorm.as_ref().expect("asked for")), bits(want.x_prenorm.as_ref().expect("asked for")));
        assert!(relative_l2(got.x_norm.data(), unmasked.x_norm.data()) > 1e-2, "the mask has an effect");
    };
    // A mask from the host's memory.
    pass.write_mask(&mask(3)).expect("a mask");
    check(&run(&mut pass, host.encoder()), &mask(3));
    // A mask from a buffer on the device, in one submission with the pass.
    let values: Vec<f32> = [f32::NAN; 2].into_iter().chain(mask(4).iter().map(|&masked| if masked { -0.5 } else { 0.0 })).collect();
    let buffer = host.buffer(&values, wgpu::BufferUsages::COPY_SRC);
    let mut encoder = host.encoder();
    pass.encode_mask(&mut encoder, &buffer, 8).expect("a mask");
    check(&run(&mut pass, encoder), &mask(4));
    // The mask stays for later passes.
    check(&run(&mut pass, host.encoder()), &mask(4));
    pass.write_mask(&vec![false; patches]).expect("a mask");
    assert_eq!(bits(&run(&mut pass, host.encoder()).x_norm), bits(&unmasked.x_norm), "nothing is masked any more");

    let mut encoder = host.encoder();
    assert!(pass.encode_mask(&mut encoder, &buffer, 12).unwrap_err().to_string().contains("a mask of 2 x 15 f32"));
    assert!(pass.write_mask(&[true]).unwrap_err().to_string().contains("1 entries for 2 x 15 patches"));
    assert!(plain.write_mask(&mask(3)).unwrap_err().to_string().contains("PassSettings::masked"));
    assert!(plain.encode_mask(&mut encoder, &buffer, 0).is_err() && plain.mask().is_none());
    let texture = host.texture(size, wgpu::TextureFormat::R32Float, wgpu::TextureUsages::TEXTURE_BINDING);
    let slice = SliceSource::Texture(&texture.create_view(&wgpu::TextureViewDescriptor::default()));
    assert!(plain.encode_slice(&mut encoder, 0, slice).unwrap_err().to_string().contains("takes images"));
}

#[test]
fn features_that_are_not_finite_are_an_error() {
    let Some(host) = Host::new() else { return };
    let gpu = host.model("seeded:0:micro");
    let mut pass = Pass::new(&gpu, &PassSettings::new(ImageInput { channels: 3, height: 32, width: 32 })).expect("a pass");
    let mut image = vec![0.5; 3 * 32 * 32];
    for value in [0.5, f32::NAN, 0.5] {
        image[100] = value;
        pass.write(&image).expect("an image");
        let mut encoder = host.encoder();
        pass.encode(&mut encoder);
        let features = pass.read(&mut encoder);
        host.submit(encoder);
        host.poll();
        let features = pollster::block_on(features);
        if value.is_nan() {
            assert!(features.unwrap_err().to_string().contains("not finite"));
        } else {
            assert_eq!(features.expect("features").x_norm.shape(), [1, 9, 64]);
        }
    }
}
