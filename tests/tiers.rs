//! The model with every tier of kernels that the device supports, against PyTorch and the CPU, as a table.

mod common;
mod device;

use common::{Golden, data, f32_tolerance, uniform};
use meddino::Tensor;
use meddino::backbone::Backbone;
use meddino::gpu::{Context, Gpu};
use meddino::graph::{Elem, Limits, ProductSplit, ProductTile, Tier, TileChoice, Tiles};
use meddino::verify::{self, TapDistance, Tolerance};
use meddino::vit::config::{Config, ModelSize, RopePrecision};
use meddino::vit::features::{Features, Request};
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;

/// One context for every tier and precision that the device supports.
fn tiers() -> Vec<Context> {
    let Some(context) = device::context() else { return Vec::new() };
    let combinations = Tier::ALL.into_iter().flat_map(|tier| [(tier, Elem::F32), (tier, Elem::F16)]);
    let tuned = |(tier, elem): (Tier, Elem)| {
        let tuned = context.tuned(elem, Some(tier)).expect("a tier that the device runs");
        assert_eq!((tuned.limits().tier, tuned.limits().elem), (tier, elem), "{:?}", tuned.warnings());
        tuned
    };
    combinations.filter(|&(tier, elem)| context.abilities().run(tier, elem)).map(tuned).collect()
}

/// The tolerance of `verify` for f16. f32 gets that of other tests with bf16 RoPE, and five times as much with f32
/// RoPE, because cooperative matrices add up all of K in one running sum.
fn tolerance(elem: Elem, config: &Config) -> Tolerance {
    match (elem, config.rope) {
        (Elem::F16, _) => Tolerance::F16,
        (Elem::F32, RopePrecision::F32) => Tolerance { relative_l2: 1e-5, cosine: 0.999_999 },
        (Elem::F32, RopePrecision::Bf16) => Tolerance { relative_l2: f32_tolerance(config), cosine: 0.999_999 },
    }
}

/// Prints the worst row of a run, and returns a message if the run exceeds its tolerance.
fn judge(context: &Context, title: &str, config: &Config, rows: &[TapDistance]) -> Option<String> {
    let (tier, elem) = (context.limits().tier, context.limits().elem);
    let worst = rows.iter().max_by(|a, b| a.relative_l2.total_cmp(&b.relative_l2)).expect("rows");
    let cosine = rows.iter().map(|row| 1.0 - row.cosine).fold(0.0, f64::max);
    let line = format!("{title:<32} {tier:<14} {} {:>10.2e} {cosine:>10.2e}  {}", elem.name(), worst.relative_l2, worst.tap);
    println!("{line}");
    (!rows.iter().all(|row| row.passes(tolerance(elem, config)))).then_some(line)
}

fn run(context: &Context, model: &Model, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Features {
    let gpu = Gpu::new(context, model.config(), &model.weights().expect("seeded weights")).expect("room for the weights");
    gpu.forward(image, mask, request).expect("features")
}

fn against_pytorch(goldens: &[&str]) {
    let mut off = Vec::new();
    for name in goldens {
        let golden = Golden::open(name);
        let mut model = ModelSource::parse(&golden.weights).and_then(|source| source.open()).expect("seeded weights");
        model.set_rope(golden.rope);
        let outputs = verify::Golden::open(&data(&format!("golden/{name}.safetensors"))).expect("a golden");
        for context in tiers() {
            let features = run(&context, &model, &golden.image, golden.mask.as_deref(), &golden.request);
            let rows = outputs.compare(&features, model.config()).expect("the golden's shapes");
            off.extend(judge(&context, name, model.config(), &rows));
        }
    }
    assert!(off.is_empty(), "beyond their tolerance:\n{}", off.join("\n"));
}

/// Features of two tiers or precisions never mix in one file, because only the same method resumes an unfinished file.
#[test]
fn each_tier_precision_and_tile_geometry_is_its_own_method() {
    let model = Model::seeded(0, ModelSize::Micro);
    let mut contexts = tiers();
    let tile = ProductTile { rows: 32, cols: 64, split: ProductSplit::Tiled { depth: 8, sums: [4, 4], groups: 1 } };
    let tiles = Tiles { many: TileChoice::of_products(tile), ..Tiles::DEFAULT };
    contexts.extend(contexts.first().map(|first| first.with_tiles(tiles)));
    let methods: Vec<String> = contexts.iter().map(|context| Backbone::on(&model, context).expect("a backbone").method()).collect();
    for (index, method) in methods.iter().enumerate() {
        assert!(!methods[..index].contains(method), "two are {method}");
    }
    // The work limit of a dispatch is measured and differs from run to run, so it does not belong to the method.
    if let Some(context) = device::context() {
        let narrow = device::narrow_context(Limits { max_work: Some(1 << 40), ..*context.limits() }).expect("the same device");
        let wide = context.tuned(Elem::F32, Some(narrow.limits().tier)).expect("a tier that the device runs");
        assert_ne!(wide.limits(), narrow.limits());
        let method = |context: &Context| Backbone::on(&model, context).expect("a backbone").method();
        assert_eq!(method(&wide), method(&narrow));
    }
}

#[test]
fn tiny_equals_pytorch() {
    against_pytorch(&["tiny_b3_70x115_rope-f32", "tiny_b2_48x80_rope-bf16_masked"]);
}

/// Takes minutes on a software GPU.
#[test]
#[ignore = "slow on software GPUs; for a real one, and before a release"]
fn base_equals_pytorch() {
    against_pytorch(&["base_224_rope-f32", "base_224_rope-bf16", "base_b2_160x240_rope-f32"]);
}

#[test]
fn micro_equals_the_cpu_at_every_tap() {
    let mut off = Vec::new();
    for rope in [RopePrecision::F32, RopePrecision::Bf16] {
        let mut model = Model::seeded(0, ModelSize::Micro);
        model.set_rope(rope);
        let request = Request { prenorm: true, layers: (0..model.config().depth).collect(), taps: true };
        let shape = [2, 3, 71, 50];
        let image = Tensor::new(shape, uniform("image", shape.iter().product(), 0));
        let weights = meddino::cpu::layers(model.weights().expect("seeded weights"), meddino::cpu::FactorType::F32);
        let want = meddino::cpu::forward(&weights, model.config(), &image, None, &request).expect("features");
        for context in tiers() {
            let rows = verify::compare(&run(&context, &model, &image, None, &request), &want);
            off.extend(judge(&context, &format!("micro, {} RoPE, every tap", rope.name()), model.config(), &rows));
        }
    }
    assert!(off.is_empty(), "beyond their tolerance:\n{}", off.join("\n"));
}

/// A trained model's residual stream has a few channels with much larger values than the others. It is stored in f32,
/// because f16 would lose the small channels beside the large ones.
#[test]
fn a_few_large_channels_do_not_drown_the_others() {
    let model = Model::seeded(0, ModelSize::Tiny);
    let mut weights = model.weights().expect("seeded weights");
    for (channel, value) in [(3, 350.0), (77, -280.0)] {
        weights.patch_embed.bias.as_mut().expect("a bias").data_mut()[channel] = value;
        weights.cls_token.data_mut()[channel] = value;
    }
    let request = Request { prenorm: true, ..Request::default() };
    let image = Tensor::new([1, 3, 64, 80], uniform("image", 3 * 64 * 80, 0));
    let want = meddino::cpu::forward(
        &meddino::cpu::layers(weights.clone(), meddino::cpu::FactorType::F32),
        model.config(),
        &image,
        None,
        &request,
    )
    .expect("features");
    // Only the small channels are compared.
    let others = |features: &Features| {
        let x = features.x_prenorm.as_ref().expect("asked for");
        let keep = |(i, v): (usize, &f32)| (!matches!(i % x.cols(), 3 | 77)).then_some(*v);
        Tensor::new([x.data().len() / x.cols(), x.cols() - 2], x.data().iter().enumerate().filter_map(keep).collect())
    };
    let mut off = Vec::new();
    for context in tiers() {
        let gpu = Gpu::new(&context, model.config(), &weights).expect("room for the weights");
        let got = gpu.forward(&image, None, &request).expect("features");
        off.extend(judge(&context, "large channels", model.config(), &[TapDistance::new("the others", &others(&got), &others(&want))]));
    }
    assert!(off.is_empty(), "beyond their tolerance:\n{}", off.join("\n"));
}

#[test]
fn f16_takes_half_the_memory_and_reports_values_beyond_its_range() {
    for context in tiers().into_iter().filter(|context| context.limits().elem == Elem::F16) {
        let wide = context.tuned(Elem::F32, None).expect("f32");
        let model = Model::seeded(0, ModelSize::Tiny);
        let mut weights = model.weights().expect("seeded weights");
        let on = |context: &Context| Gpu::new(context, model.config(), &weights).expect("room for the weights");
        let [narrow, wide] = [on(&context), on(&wide)];
        assert!((narrow.weights().bytes() as f64) < 0.75 * wide.weights().bytes() as f64, "the blocks' matrices are half");
        let slots = |gpu: &Gpu| gpu.bytes(&[1, 1, 224, 224], false, &Request::default()).expect("a plan").slots as f64;
        assert!(slots(&narrow) < 0.8 * slots(&wide), "{} of {}", slots(&narrow), slots(&wide));
        weights.blocks[1].mlp.fc1.weight.data_mut()[7] = 1e5;
        let refused = Gpu::new(&context, model.config(), &weights).unwrap_err().to_string();
        assert!(
            refused.contains("blocks.1.mlp.fc1.weight") && refused.contains("100000") && refused.contains("`precision` f32"),
            "{refused}"
        );
    }
}
