//! The CPU backend against PyTorch's outputs for seeded weights.

mod common;

use common::{Golden, f32_tolerance, on_lower_sets};
use meddino::backbone::{Backbone, Choice};
use meddino::vit::config::RopePrecision;
use meddino::vit::source::ModelSource;

/// The largest allowed error of an element.
fn largest_error(rope: RopePrecision) -> f32 {
    match rope {
        RopePrecision::F32 => 1e-3,
        RopePrecision::Bf16 => 0.2,
    }
}

fn check(name: &str) {
    let golden = Golden::open(name);
    let mut model = ModelSource::parse(&golden.weights).and_then(|source| source.open()).expect("seeded weights");
    model.set_rope(golden.rope);
    let backbone = Backbone::new(&model, Choice::Cpu).expect("the CPU");
    let features = backbone.features(&golden.image, golden.mask.as_deref(), &golden.request).expect("features");
    let (l2, largest) = (f32_tolerance(model.config()), largest_error(golden.rope));
    let rows = golden.compare(&features);
    let table: Vec<String> =
        rows.iter().map(|(tensor, e, m)| format!("{name} {tensor}: relative L2 {e:.2e}, largest error {m:.2e}")).collect();
    println!("{}", table.join("\n"));
    assert!(rows.iter().all(|(_, e, m)| *e <= l2 && *m <= largest), "beyond {l2:.0e} or {largest}:\n{}", table.join("\n"));
}

#[test]
fn base_at_224_with_f32_rope() {
    check("base_224_rope-f32");
}

#[test]
fn base_at_224_with_bf16_rope() {
    check("base_224_rope-bf16");
}

#[test]
fn base_batched_and_not_square() {
    check("base_b2_160x240_rope-f32");
}

#[test]
fn tiny_with_sides_that_are_no_multiple_of_a_patch() {
    check("tiny_b3_70x115_rope-f32");
}

#[test]
fn tiny_masked() {
    check("tiny_b2_48x80_rope-bf16_masked");
}

#[test]
fn lower_instruction_sets() {
    on_lower_sets(&["base_at_224_with_f32_rope", "tiny_"]);
}

/// The tolerance for bf16 RoPE does not hide that a backend rounds nothing.
#[test]
fn f32_rope_by_mistake_is_beyond_the_tolerance() {
    for name in ["base_224_rope-bf16", "tiny_b2_48x80_rope-bf16_masked"] {
        let golden = Golden::open(name);
        let mut model = ModelSource::parse(&golden.weights).and_then(|source| source.open()).expect("seeded weights");
        model.set_rope(golden.rope);
        let l2 = f32_tolerance(model.config());
        model.set_rope(RopePrecision::F32);
        let backbone = Backbone::new(&model, Choice::Cpu).expect("the CPU");
        let features = backbone.features(&golden.image, golden.mask.as_deref(), &golden.request).expect("features");
        let rows = golden.compare(&features);
        assert!(rows.iter().any(|(_, e, _)| *e > l2), "{name}: within {l2:.0e}: {rows:?}");
    }
}
