//! The model on a GPU against PyTorch, against the CPU, and against itself.

mod common;
mod device;

use common::{Golden, f32_tolerance, max_abs, uniform};
use meddino::Tensor;
use meddino::error::GpuFailure;
use meddino::gpu::{Context, Gpu, Selection};
use meddino::graph::{Elem, Limits, Tier};
use meddino::tensor::relative_l2;
use meddino::vit::config::{Config, RopePrecision};
use meddino::vit::features::{Features, Request};
use meddino::vit::source::ModelSource;
use meddino::vit::weights::Weights;

fn open(source: &str, rope: RopePrecision) -> (Config, Weights<Tensor>) {
    let mut model = ModelSource::parse(source).and_then(|source| source.open()).expect("seeded weights");
    model.set_rope(rope);
    (model.config().clone(), model.weights().expect("seeded weights"))
}

fn image(shape: [usize; 4]) -> Tensor {
    Tensor::new(shape, uniform("image", shape.iter().product(), 0).into_iter().map(|v| v * 2.0).collect())
}

/// A request for every output that the model has.
fn everything(config: &Config) -> Request {
    Request { prenorm: true, layers: (0..config.depth).collect(), taps: true }
}

/// Every tensor of `features` by name.
fn tensors(features: &Features) -> Vec<(String, &Tensor)> {
    let layers = features.layers.iter().map(|(n, x)| (format!("layers.{n}"), x));
    let taps = features.taps.iter().map(|(name, x)| (name.clone(), x));
    let prenorm = features.x_prenorm.iter().map(|x| ("x_prenorm".to_owned(), x));
    taps.chain(layers).chain(prenorm).chain([("x_norm".to_owned(), &features.x_norm)]).collect()
}

/// Compares every tensor by relative L2, and lists those beyond `l2`.
fn assert_close(got: &Features, want: &Features, l2: f64) {
    let (got, want) = (tensors(got), tensors(want));
    assert_eq!(got.iter().map(|t| &t.0).collect::<Vec<_>>(), want.iter().map(|t| &t.0).collect::<Vec<_>>());
    let exceeding: Vec<String> = got
        .iter()
        .zip(&want)
        .map(|((name, got), (_, want))| {
            assert_eq!(got.shape(), want.shape(), "{name}");
            (name, relative_l2(got.data(), want.data()), max_abs(got.data(), want.data()))
        })
        .filter(|(_, e, _)| e.is_nan() || *e > l2)
        .map(|(name, e, m)| format!("{name}: relative L2 {e:.2e}, largest difference {m:.2e}"))
        .collect();
    assert!(exceeding.is_empty(), "beyond {l2:.0e}:\n{}", exceeding.join("\n"));
}

fn same_bits(a: &Features, b: &Features) -> bool {
    tensors(a).iter().zip(&tensors(b)).all(|(a, b)| a.1.data().iter().map(|v| v.to_bits()).eq(b.1.data().iter().map(|v| v.to_bits())))
}

/// Compares a golden's features on the GPU. The tolerances are the errors that PyTorch's own f32 may have.
fn against_pytorch(name: &str) {
    let Some(context) = device::context() else { return };
    let golden = Golden::open(name);
    let (config, weights) = open(&golden.weights, golden.rope);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let features = gpu.forward(&golden.image, golden.mask.as_deref(), &golden.request).unwrap();
    let l2 = match golden.rope {
        RopePrecision::F32 => 1e-5,
        RopePrecision::Bf16 => f32_tolerance(&config),
    };
    let rows = golden.compare(&features);
    let table: Vec<String> =
        rows.iter().map(|(tensor, e, m)| format!("{name} {tensor}: relative L2 {e:.2e}, largest error {m:.2e}")).collect();
    println!("{}", table.join("\n"));
    assert!(rows.iter().all(|(_, e, _)| *e <= l2), "beyond {l2:.0e}:\n{}", table.join("\n"));
}

#[test]
fn base_at_224_with_f32_rope_equals_pytorch() {
    against_pytorch("base_224_rope-f32");
}

#[test]
fn base_at_224_with_bf16_rope_equals_pytorch() {
    against_pytorch("base_224_rope-bf16");
}

#[test]
fn base_batched_and_not_square_equals_pytorch() {
    against_pytorch("base_b2_160x240_rope-f32");
}

#[test]
fn tiny_with_sides_that_are_no_multiple_of_a_patch_equals_pytorch() {
    against_pytorch("tiny_b3_70x115_rope-f32");
}

#[test]
fn tiny_masked_equals_pytorch() {
    against_pytorch("tiny_b2_48x80_rope-bf16_masked");
}

#[test]
fn every_tap_equals_the_cpu() {
    let Some(context) = device::context() else { return };
    for source in ["seeded:0:micro", "seeded:3:tiny"] {
        for rope in [RopePrecision::F32, RopePrecision::Bf16] {
            let (config, weights) = open(source, rope);
            let request = everything(&config);
            for (shape, masked) in [([1, 3, 16, 16], false), ([2, 3, 71, 50], true), ([3, 1, 48, 112], false)] {
                let image = image(shape);
                let patches = shape[0] * (shape[2] / 16) * (shape[3] / 16);
                let mask: Option<Vec<bool>> = masked.then(|| (0..patches).map(|p| p % 3 == 1).collect());
                let want = meddino::cpu::forward(
                    &meddino::cpu::layers(weights.clone(), meddino::cpu::FactorType::F32),
                    &config,
                    &image,
                    mask.as_deref(),
                    &request,
                )
                .unwrap();
                let gpu = Gpu::new(&context, &config, &weights).unwrap();
                let got = gpu.forward(&image, mask.as_deref(), &request).unwrap();
                assert_close(&got, &want, f32_tolerance(&config));
            }
        }
    }
}

#[test]
fn narrow_limits_give_the_same_numbers() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let (image, request) = (image([2, 3, 160, 176]), everything(&config));
    let want = Gpu::new(&context, &config, &weights).unwrap().forward(&image, None, &request).unwrap();
    // Just enough for the patch embedding's weight, which is bound as a whole.
    let tiny_bindings = Limits { max_binding: 384 << 10, max_workgroups: 256, ..Limits::DEFAULT };
    for limits in [Limits::DEFAULT, Limits { max_binding: 8 << 20, ..Limits::DEFAULT }, tiny_bindings] {
        let context = device::narrow_context(limits).expect("the same device");
        let gpu = Gpu::new(&context, &config, &weights).unwrap();
        assert_close(&gpu.forward(&image, None, &request).unwrap(), &want, 2e-6);
    }
}

/// The MLP weights of ViT-B (9.4 MB) do not fit into one binding of 8 MiB.
#[test]
fn base_with_bindings_of_8_mib_gives_the_same_numbers() {
    let Some(context) = device::context() else { return };
    // Two contexts with limits of their own, so that both have the same tier.
    let with = |max_binding| device::narrow_context(Limits { max_binding, ..*context.limits() }).expect("the same device");
    let [wide, narrow] = [context.limits().max_binding, 8 << 20].map(with);
    let (config, weights) = open("seeded:0", RopePrecision::F32);
    let (image, request) = (image([1, 1, 224, 224]), Request::default());
    let [want, got] = [wide, narrow].map(|context| Gpu::new(&context, &config, &weights).unwrap().forward(&image, None, &request).unwrap());
    assert_close(&got, &want, 2e-6);
}

/// A driver may fuse or reorder the operations of a shader with run-time checks in another way than those without, so
/// the two agree to the rounding of f32, while each repeats its own bits.
#[test]
fn passes_repeat_their_bits_and_shader_checks_change_no_more_than_rounding() {
    let Some(context) = device::context() else { return };
    for rope in [RopePrecision::F32, RopePrecision::Bf16] {
        let (config, weights) = open("seeded:0:tiny", rope);
        let (image, second_size, request) = (image([2, 3, 80, 96]), image([1, 3, 224, 224]), everything(&config));
        let passes = [Gpu::new(&context, &config, &weights), Gpu::with_shader_checks(&context, &config, &weights)].map(|gpu| {
            let gpu = gpu.unwrap();
            let first = gpu.forward(&image, None, &request).unwrap();
            let _ = gpu.forward(&second_size, None, &Request::default()).unwrap();
            assert!(same_bits(&first, &gpu.forward(&image, None, &request).unwrap()), "the same pass again");
            first
        });
        assert_close(&passes[1], &passes[0], f32_tolerance(&config));
    }
}

/// Bytes that the device has allocated, if its allocator reports them.
fn allocated(context: &Context) -> Option<u64> {
    let _ = context.device().poll(wgpu::PollType::wait_indefinitely());
    context.device().generate_allocator_report().map(|report| report.total_allocated_bytes)
}

#[test]
fn image_sizes_share_one_copy_of_the_weights_and_old_sizes_are_evicted() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:tiny", RopePrecision::Bf16);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let parameters: usize = weights.leaves().iter().map(|t| t.data().len()).sum();
    assert_eq!(gpu.weights().bytes(), 4 * parameters as u64);
    let request = Request::default();
    let with_weights = allocated(&context);
    let mut after = Vec::new();
    for side in [16, 32, 48, 64, 32, 16, 64, 48, 64, 48, 32, 16] {
        gpu.forward(&image([1, 3, side, side]), None, &request).unwrap();
        after.push(allocated(&context));
    }
    if let (Some(with_weights), Some(Some(all_four)), Some(Some(last))) = (with_weights, after.get(3), after.last()) {
        assert!(all_four - with_weights < gpu.weights().bytes(), "four sizes add {} bytes", all_four - with_weights);
        assert!(last <= all_four, "the same four sizes again take {last} bytes after {all_four}");
    }
    // A fifth size evicts one of the cached sizes, so memory stays bounded.
    let shapes: Vec<[usize; 4]> = (5..30).map(|n| [1, 3, 16 * n, 160]).collect();
    let bytes_needed = |shape: &[usize; 4]| gpu.bytes(shape, false, &request).map(|b| b.slots + b.inputs + b.outputs).unwrap();
    assert!(shapes.iter().map(bytes_needed).is_sorted(), "larger images need more");
    for &shape in &shapes {
        gpu.forward(&image(shape), None, &request).unwrap();
    }
    if let (Some(before), Some(now)) = (with_weights, allocated(&context)) {
        let upper_bound = 4 * bytes_needed(shapes.last().unwrap()) + (2 << 20);
        assert!(upper_bound < shapes.iter().map(bytes_needed).sum(), "all 25 would be more");
        assert!(now - before < upper_bound, "25 sizes hold {} bytes", now - before);
    }
}

#[test]
fn a_batch_that_is_too_large_is_refused_and_the_next_call_works() {
    let limits = Limits { max_buffer: 8 << 20, max_binding: 8 << 20, ..Limits::DEFAULT };
    let Some(context) = device::narrow_context(limits) else { return };
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let request = Request::default();
    let error = gpu.forward(&image([32, 1, 224, 224]), None, &request).unwrap_err();
    let refused = error.to_string();
    assert_eq!(device::kind(&error), Some(GpuFailure::TooLarge));
    assert!(refused.contains("bytes") && refused.contains("8388608") && refused.contains("`batch`"), "{refused}");
    let small = image([1, 1, 32, 32]);
    let want =
        meddino::cpu::forward(&meddino::cpu::layers(weights.clone(), meddino::cpu::FactorType::F32), &config, &small, None, &request)
            .unwrap();
    assert_close(&gpu.forward(&small, None, &request).unwrap(), &want, 2e-6);
}

#[test]
fn inputs_that_do_not_fit_the_model_are_refused_before_anything_runs() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let refused = |image: &Tensor, mask: Option<&[bool]>, request: &Request| gpu.forward(image, mask, request).unwrap_err().to_string();
    let valid = image([1, 3, 32, 32]);
    assert!(refused(&image([1, 2, 32, 32]), None, &Request::default()).contains("[1, 2, 32, 32]"));
    assert!(refused(&image([1, 3, 15, 32]), None, &Request::default()).contains("15 x 32"));
    assert!(refused(&valid, Some(&[true; 3]), &Request::default()).contains("3 entries"));
    assert!(refused(&valid, None, &Request { layers: vec![2], ..Request::default() }).contains("no block 2"));
    let overflowing = Tensor::new([1, 3, 32, 32], vec![f32::MAX; 3 * 32 * 32]);
    assert!(refused(&overflowing, None, &Request::default()).contains("not finite"));
    assert!(gpu.forward(&valid, None, &Request::default()).is_ok());
}

#[test]
fn threads_share_one_model() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let images = [image([1, 3, 32, 32]), image([2, 3, 48, 32])];
    let alone = images.each_ref().map(|image| gpu.forward(image, None, &Request::default()).unwrap());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gpu, images, alone) = (&gpu, &images, &alone);
            scope.spawn(move || {
                for round in 0..5 {
                    let which = (worker + round) % 2;
                    let got = gpu.forward(&images[which], None, &Request::default()).unwrap();
                    assert!(same_bits(&got, &alone[which]));
                }
            });
        }
    });
}

#[test]
fn a_profile_names_kernels_and_blocks() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let profile = gpu.profile(&image([1, 3, 48, 48]), None, &Request::default()).unwrap();
    if profile.dispatches.is_some() {
        let kernels: Vec<String> = profile.by_kernel().into_iter().map(|row| row.name).collect();
        for kernel in ["patch_embed", "tokens", "layernorm", "matmul", "rope", "attention"] {
            assert!(kernels.iter().any(|k| k == kernel), "{kernel} is not among {kernels:?}");
        }
        let blocks: Vec<String> = profile.by_block().into_iter().map(|row| row.name).collect();
        assert_eq!(blocks, ["patch_embed", "tokens", "blocks.0", "blocks.1", "norm"]);
    }
    // Matrix products of two blocks of 14 tokens: qkv, proj and MLP are 12 C^2 multiply-adds per token; attention's 2 T
    // C are small beside them.
    let matmuls = 2 * 2 * 14 * 12 * 64 * 64;
    assert!(profile.cost.flops > matmuls && profile.cost.flops < 2 * matmuls, "{} against {matmuls}", profile.cost.flops);
}

/// Three batches are in flight at once, two of them in the same buffers. They are awaited in another order and by other
/// threads.
#[test]
fn batches_in_flight_do_not_mix() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let request = everything(&config);
    let first = image([2, 3, 70, 115]);
    let images = [Tensor::new([2, 3, 70, 115], first.data().iter().map(|v| 0.5 - v).collect()), image([1, 1, 48, 80]), first];
    let alone: Vec<Features> = images.iter().map(|image| gpu.forward(image, None, &request).unwrap()).collect();
    assert!(!same_bits(&alone[0], &alone[2]));
    for _ in 0..5 {
        let mut pending: Vec<_> = images.iter().map(|image| gpu.submit(image, None, &request).unwrap()).collect();
        let (last, middle) = (pending.pop().unwrap(), pending.pop().unwrap());
        assert!(same_bits(&last.wait().unwrap(), &alone[2]));
        std::thread::scope(|scope| {
            let middle = scope.spawn(|| middle.wait().unwrap());
            // Submitting polls the device too, and may complete the other thread's call.
            let again = gpu.submit(&images[0], None, &request).unwrap();
            assert!(same_bits(&middle.join().unwrap(), &alone[1]));
            assert!(same_bits(&again.wait().unwrap(), &alone[0]));
        });
        assert!(same_bits(&pending.pop().unwrap().wait().unwrap(), &alone[0]));
    }
}

fn is_send<T: Send>(value: T) -> T {
    value
}

/// Compiles only if these futures are `Send`. Nothing calls this function.
#[allow(dead_code, reason = "the compiler is the test")]
async fn the_other_futures_are_send(context: &Context, gpu: &Gpu, image: &Tensor) {
    let _ = is_send(context.tune_async(|_| Ok(()))).await;
    let _ = is_send(context.peak_flops_async()).await;
    let _ = is_send(gpu.profile_async(image, None, &Request::default())).await;
}

/// Opens the device and computes features on an executor that does not know the device and parks its thread. Two
/// batches are in flight at once, and the first is awaited last.
#[test]
fn any_executor_awaits_features_on_any_thread() {
    let Some(blocking) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let request = everything(&config);
    let images = [image([1, 3, 32, 48]), image([2, 3, 48, 32])];
    let gpu = Gpu::new(&blocking, &config, &weights).unwrap();
    let want = images.each_ref().map(|image| gpu.forward(image, None, &request).unwrap());
    let awaited = is_send(async {
        let context = Context::new_async(&Selection::Auto).await?;
        let gpu = Gpu::new_async(&context, &config, &weights).await?;
        let first = gpu.submit_async(&images[0], None, &request).await?;
        let (second, span) = gpu.submit_clocked_async(&images[1], None, &request).await?.wait_clocked_async().await?;
        assert_eq!(span.is_some(), context.device().features().contains(wgpu::Features::TIMESTAMP_QUERY));
        let times = gpu.pass_times_async(&images[0], &request, 2).await?;
        assert!(times.len() == 2 && times.iter().all(|time| !time.is_zero()));
        Ok::<_, meddino::Error>([first.await?, second])
    });
    let got = std::thread::scope(|scope| scope.spawn(|| pollster::block_on(awaited)).join().unwrap()).unwrap();
    assert!(got.iter().zip(&want).all(|(got, want)| same_bits(got, want)));
}

/// Dropping a future while the device works must not disturb the next one. Losing the device ends a pending future with
/// an error.
#[test]
fn a_pending_future_may_be_dropped_or_lose_its_device() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let (image, request) = (image([1, 3, 32, 32]), everything(&config));
    let want = gpu.forward(&image, None, &request).unwrap();
    for _ in 0..5 {
        let mut dropped = gpu.submit(&image, None, &request).unwrap();
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = std::pin::Pin::new(&mut dropped).poll(&mut task);
        drop(dropped);
        assert!(same_bits(&pollster::block_on(gpu.forward_async(&image, None, &request)).unwrap(), &want));
    }
    let pending = gpu.submit(&image, None, &request).unwrap();
    context.device().destroy();
    // What the device had finished before is there; what it had not is an error.
    match pollster::block_on(pending) {
        Ok(features) => assert!(same_bits(&features, &want)),
        Err(problem) => assert!(problem.to_string().starts_with("gpu: "), "{problem}"),
    }
    let message = pollster::block_on(gpu.forward_async(&image, None, &request)).unwrap_err().to_string();
    assert!(message.contains("was lost"), "{message}");
}

/// A copy of the weights in which the tensor that `change` returns is multiplied by `factor`.
fn scaled(weights: &Weights<Tensor>, change: impl FnOnce(&mut Weights<Tensor>) -> &mut Tensor, factor: f32) -> Weights<Tensor> {
    let mut weights = weights.clone();
    change(&mut weights).data_mut().iter_mut().for_each(|v| *v *= factor);
    weights
}

fn on_the_cpu(config: &Config, weights: Weights<Tensor>, image: &Tensor) -> meddino::Result<Features> {
    meddino::cpu::forward(&meddino::cpu::layers(weights, meddino::cpu::FactorType::F32), config, image, None, &Request::default())
}

#[test]
fn the_cpu_names_the_block_whose_values_exceed_f32() {
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let image = image([1, 1, 32, 32]);
    let huge = scaled(&weights, |w| &mut w.blocks[1].mlp.fc2.weight, 1e38);
    let message = on_the_cpu(&config, scaled(&huge, |w| &mut w.blocks[1].ls2, 1e10), &image).unwrap_err().to_string();
    assert!(message.contains("not finite from blocks.1 on") && message.contains("beyond f32's range"), "{message}");
    let message = on_the_cpu(&config, weights.clone(), &Tensor::new([1, 1, 32, 32], vec![f32::NAN; 1024])).unwrap_err().to_string();
    assert!(message.contains("not finite from patch_embed on"), "{message}");
    // These values fit f32 but their squares do not. The CPU's LayerNorm computes its statistics in f64, so it
    // succeeds.
    let large = scaled(&weights, |w| &mut w.patch_embed.weight, 1e24);
    assert!(on_the_cpu(&config, large, &image).is_ok());
}

#[test]
fn the_gpu_reports_values_that_exceed_f32() {
    let Some(context) = device::context() else { return };
    // Without cooperative matrices, which hold less than f32.
    let tier = if context.abilities().subgroups { Tier::Subgroups } else { Tier::Baseline };
    let context = context.tuned(Elem::F32, Some(tier)).unwrap();
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let image = image([1, 1, 32, 32]);
    let huge = scaled(&weights, |w| &mut w.blocks[1].mlp.fc2.weight, 1e38);
    let huge = scaled(&huge, |w| &mut w.blocks[1].ls2, 1e10);
    // The squares of a row's values exceed f32. LayerNorm must report that, not silently return its bias.
    let large = scaled(&weights, |w| &mut w.patch_embed.weight, 1e24);
    for weights in [huge, large] {
        let gpu = Gpu::new(&context, &config, &weights).unwrap();
        let message = gpu.forward(&image, None, &Request::default()).unwrap_err().to_string();
        assert!(
            message.contains("not finite")
                && message.contains("beyond f32's range")
                && message.contains("`backend` cpu says in which block"),
            "{message}"
        );
    }
}

/// Cooperative matrices hold an f32 as two f16.
#[test]
fn values_that_exceed_cooperative_matrices_are_an_error_that_advises_another_tier() {
    let Some(context) = device::context() else { return };
    let cooperative = |tier: &Tier| tier.cooperative().is_some() && context.abilities().run(*tier, Elem::F32);
    let Some(tier) = Tier::ALL.into_iter().find(cooperative) else { return };
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let (image, request) = (image([1, 1, 32, 32]), Request::default());
    let hidden = scaled(&weights, |w| &mut w.blocks[0].mlp.fc1.weight, 3e5);
    let run = |tier| Gpu::new(&context.tuned(Elem::F32, Some(tier)).unwrap(), &config, &hidden).unwrap().forward(&image, None, &request);
    let message = run(tier).unwrap_err().to_string();
    assert!(message.starts_with("tier: ") && message.contains("65504") && message.contains("`tier` subgroups"), "{message}");
    assert!(run(Tier::Subgroups).is_ok());
}

#[test]
fn values_that_exceed_f16_are_an_error_that_advises_f32() {
    let Some(context) = device::context() else { return };
    let Ok(context) = context.tuned(Elem::F16, None) else { return };
    if context.limits().elem != Elem::F16 {
        return;
    }
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let image = image([1, 1, 32, 32]);
    // The weights fit f16, but activations exceed it: of the MLP, of the queries, of the values.
    let hidden = scaled(&weights, |w| &mut w.blocks[0].mlp.fc1.weight, 3e5);
    let normed = scaled(&weights, |w| &mut w.blocks[1].norm1.weight, 6e4);
    let values = scaled(&normed, |w| &mut w.blocks[1].norm1.bias, 6e4);
    for (name, weights) in [("fc1", hidden), ("norm1", normed), ("norm1 and bias", values)] {
        assert!(on_the_cpu(&config, weights.clone(), &image).is_ok(), "{name}: f32 holds it");
        let gpu = Gpu::new(&context, &config, &weights).unwrap();
        let message = gpu.forward(&image, None, &Request::default()).unwrap_err().to_string();
        assert!(
            message.starts_with("precision: ") && message.contains("f16 (65504)") && message.contains("`precision` f32"),
            "{name}: {message}"
        );
    }
    let beyond = scaled(&weights, |w| &mut w.blocks[2].attn.proj.weight, 1e8);
    let message = Gpu::new(&context, &config, &beyond).unwrap_err().to_string();
    assert!(
        message.contains("blocks.2.attn.proj.weight") && message.contains("f16 (65504)") && message.contains("`precision` f32"),
        "{message}"
    );
    let nan = scaled(&weights, |w| &mut w.blocks[2].attn.proj.weight, f32::NAN);
    let message = Gpu::new(&context, &config, &nan).unwrap_err().to_string();
    assert!(message.contains("blocks.2.attn.proj.weight") && message.contains("every weight must be finite"), "{message}");
}

/// Destroys the device before, between and after the calls of a batch: each call returns an error, or the features if
/// they had been computed before.
#[test]
fn a_device_lost_at_any_moment_is_an_error() {
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let (image, request) = (image([1, 1, 32, 32]), Request { prenorm: true, layers: vec![0], taps: false });
    let Some(context) = device::context() else { return };
    let want = Gpu::new(&context, &config, &weights).unwrap().forward(&image, None, &request).unwrap();
    let lost = |error: &meddino::Error| {
        let message = error.to_string();
        assert_eq!(device::kind(error), Some(GpuFailure::Lost), "{message}");
        assert!(message.starts_with("gpu: ") && message.contains("open it again"), "{message}");
    };
    let fresh = || Context::new(&meddino::gpu::Selection::Auto).unwrap();

    let context = fresh();
    context.device().destroy();
    lost(&Gpu::new(&context, &config, &weights).unwrap_err());

    let context = fresh();
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    context.device().destroy();
    for _ in 0..2 {
        lost(&gpu.submit(&image, None, &request).unwrap_err());
        lost(&gpu.submit_clocked(&image, None, &request).unwrap_err());
        lost(&gpu.profile(&image, None, &request).unwrap_err());
        lost(&gpu.pass_times(&image, &request, 1).unwrap_err());
    }

    let context = fresh();
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    gpu.forward(&image, None, &request).unwrap();
    let pending = [gpu.submit(&image, None, &request), gpu.submit_clocked(&image, None, &request)];
    context.device().destroy();
    for pending in pending {
        match pending.unwrap().wait() {
            Ok(got) => assert!(same_bits(&got, &want)),
            Err(error) => lost(&error),
        }
    }
    lost(&gpu.forward(&image, None, &request).unwrap_err());

    let again = Gpu::new(&fresh(), &config, &weights).unwrap().forward(&image, None, &request).unwrap();
    assert!(same_bits(&again, &want), "another device computes as before");
}
