//! The passes of one model: their memory, what they refuse, and their profile.

use meddino::Tensor;
use meddino::error::GpuFailure;
use meddino::gpu::{Context, Gpu};
use meddino::graph::Limits;
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;

use crate::{assert_close, device, image, open};

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
