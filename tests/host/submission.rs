//! Passes in the host's submission.

use std::time::Duration;

use meddino::ct::{Size, Window, prepare};
use meddino::embedding::{Pass, PassProgress, PassSettings, SliceInput, SliceSource};
use meddino::tensor::relative_l2;
use meddino::vit::features::Request;

use crate::{Host, bytes_of, on_the_cpu, slice};

const PAINT: &str = "@fragment fn shade(@builtin(position) p: vec4<f32>) -> @location(0) f32 {
    let at = vec2<u32>(p.xy);
    return f32((at.x * 37u + at.y * 91u + at.x * at.y) % 2500u) - 1250.0;
}";

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
