//! The features against PyTorch, against the CPU, and under narrower limits.

use meddino::gpu::Gpu;
use meddino::graph::Limits;
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;

use crate::common::{Golden, f32_tolerance};
use crate::{assert_close, device, everything, image, open, same_bits};

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
