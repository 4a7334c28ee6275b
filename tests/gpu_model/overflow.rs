//! Values beyond the range of a type.

use meddino::Tensor;
use meddino::gpu::Gpu;
use meddino::graph::{Elem, Tier};
use meddino::vit::config::{Config, RopePrecision};
use meddino::vit::features::{Features, Request};
use meddino::vit::weights::Weights;

use crate::{device, image, open};

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
    let tier = if context.abilities().subgroups.is_some() { Tier::Subgroups } else { Tier::Baseline };
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
