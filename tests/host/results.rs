//! What a pass gives: maps, readbacks, errors.

use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use meddino::Tensor;
use meddino::ct::{Size, Window, prepare};
use meddino::embedding::{
    Components, Context, Gpu, ImageInput, MapTexture, Pass, PassSettings, Readback, Reading, Similarity, SliceInput, SliceSource,
};
use meddino::gpu::Executable;
use meddino::maps::{Moments, cosine};
use meddino::tensor::relative_l2;
use meddino::vit::features::Request;

use crate::{Host, bytes_of, on_the_cpu, slice};

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
