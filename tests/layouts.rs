//! Every checkpoint layout on the CPU backend, against what PyTorch, transformers and timm compute for the same
//! weights.

mod common;

use common::{data, max_abs, read_safetensors};
use meddino::Tensor;
use meddino::backbone::{Backbone, Choice};
use meddino::tensor::relative_l2;
use meddino::verify::taps;
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;
use meddino::vit::model::Model;

/// File, prefix in the golden, and allowed relative L2. bf16 and f16 files hold rounded weights, so their tolerance is
/// the error of that rounding.
const FILES: &[(&str, &str, f64)] = &[
    ("flat.pth", "rope_bf16", 2e-4),
    ("flat.safetensors", "rope_bf16", 2e-4),
    ("legacy.pth", "rope_bf16", 2e-4),
    ("strided.pth", "rope_bf16", 2e-4),
    ("teacher.pth", "rope_bf16", 2e-4),
    ("wrapped.pth", "rope_bf16", 2e-4),
    ("nnunet.pth", "rope_bf16", 2e-4),
    ("flat_bf16.pth", "rope_bf16", 1e-2),
    ("flat_f16.pth", "rope_bf16", 1.5e-3),
    ("meta_qkvb.pth", "meta", 2e-6),
    ("hf/model.safetensors", "meta", 2e-6),
    ("timm_qkvb.safetensors", "meta", 2e-6),
    // timm uses an eps of 1e-5, the golden 1e-6.
    ("timm.safetensors", "rope_f32", 1e-4),
];

#[test]
fn every_layout_gives_the_features_of_pytorch() {
    let (golden, _) = read_safetensors(&data("fixtures/micro/golden.safetensors"));
    let named = |name: &str| golden.iter().find(|(n, _)| n == name).map(|(_, x)| x);
    let image = named("image").expect("in the golden");
    let request = Request { prenorm: true, layers: vec![0, 1], taps: false };
    let mut off = Vec::new();
    for (file, prefix, tolerance) in FILES {
        let features = |rope: Option<RopePrecision>| {
            let mut model = Model::open(data(&format!("fixtures/micro/{file}"))).unwrap_or_else(|e| panic!("{e}"));
            rope.into_iter().for_each(|rope| model.set_rope(rope));
            Backbone::new(&model, Choice::Cpu).expect("the CPU").features(image, None, &request).expect("features")
        };
        let compared = compare(&taps(&features(None)), &named, prefix);
        off.extend(compared.iter().filter(|(_, l2)| l2 > tolerance).map(|(tap, l2)| format!("{file} {tap}: {l2:.2e} > {tolerance:.0e}")));
        // The other RoPE arithmetic, on request. The golden tells it from the file's own.
        if *prefix == "rope_bf16" && *tolerance < 1e-3 {
            let compared = compare(&taps(&features(Some(RopePrecision::F32))), &named, "rope_f32");
            off.extend(compared.iter().filter(|(_, l2)| *l2 > 2e-6).map(|(tap, l2)| format!("{file} f32 RoPE {tap}: {l2:.2e}")));
        }
    }
    assert!(off.is_empty(), "{}", off.join("\n"));
}

/// Relative L2 of each tap against the golden's tensor of the same name under `prefix`.
fn compare<'a>(taps: &[(String, Tensor)], named: &impl Fn(&str) -> Option<&'a Tensor>, prefix: &str) -> Vec<(String, f64)> {
    let row = |(tap, got): &(String, Tensor)| {
        let want = named(&format!("{prefix}.{tap}")).unwrap_or_else(|| panic!("{prefix}.{tap} is in the golden"));
        assert!(max_abs(got.data(), want.data()).is_finite());
        (tap.clone(), relative_l2(got.data(), want.data()))
    };
    taps.iter().map(row).collect()
}
