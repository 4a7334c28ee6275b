//! What a pass takes: slices and images from buffers, textures and the host, batches and masks.

use meddino::Tensor;
use meddino::ct::{Size, Window, prepare};
use meddino::embedding::{ImageInput, MapTexture, Pass, PassSettings, Readback, Similarity, SliceInput, SliceSource};
use meddino::maps::cosine;
use meddino::tensor::relative_l2;
use meddino::vit::features::{Features, Request};

use crate::{Host, bits, hu, masked_on_the_cpu, on_the_cpu, slice};

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
