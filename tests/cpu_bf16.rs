//! The CPU's bf16 products against sums in f64, and whole models against PyTorch in f32.
//!
//! Without AVX512-BF16 the tests report that they did not run.

mod common;

use common::{Golden, uniform};
use meddino::Tensor;
use meddino::cpu::{self, Bf16, FactorType, Layer, LayerEpilogue};
use meddino::tensor::relative_l2;
use meddino::vit::config::ModelSize;
use meddino::vit::features::Request;
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;
use meddino::vit::weights::Linear;
use rayon::ThreadPoolBuilder;

fn bf16() -> Option<FactorType> {
    let here = Bf16::here();
    if here.is_none() {
        eprintln!("SKIPPED: this machine has no AVX512-BF16");
    }
    here.map(FactorType::Bf16)
}

/// Values that bf16 holds exactly.
fn exact(name: &str, shape: &[usize]) -> Tensor {
    let values = uniform(name, shape.iter().product(), 0);
    Tensor::new(shape, values.into_iter().map(|v| half::bf16::from_f32(v).to_f32()).collect())
}

/// Products of bf16 factors are exact in f32, so the remaining error is that of sums in f32.
#[test]
fn layers_of_any_size() {
    let Some(precision) = bf16() else { return };
    for [m, n, k] in [[1, 1, 1], [12, 32, 2], [13, 33, 7], [217, 65, 64], [201, 96, 768], [5, 40, 3072]] {
        let (x, weight, bias) = (exact("x", &[m, k]), exact("weight", &[n, k]), exact("bias", &[n]));
        let layer = Layer::new(Linear { weight: weight.clone(), bias: Some(bias.clone()) }, precision);
        let y = Tensor::filled_by(|y| cpu::matmul(&x, &layer, LayerEpilogue::Bias, y));
        let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let want: Vec<f64> = x
            .data()
            .chunks(k)
            .flat_map(|row| weight.data().chunks(k).zip(bias.data()).map(move |(column, &bias)| dot((row, column)) + f64::from(bias)))
            .collect();
        let error = relative_l2(y.data(), &want);
        assert!(error < 1e-6, "[{m}, {n}, {k}]: relative L2 {error:.1e}");
    }
}

/// bf16 has eight significant bits, so the scaled queries and the softmax's weights are rounded by up to 2^-9, at
/// random.
#[test]
fn attention_of_any_size() {
    let Some(precision) = bf16() else { return };
    for (heads, t, d) in [(1, 1, 4), (2, 7, 12), (3, 33, 20), (2, 121, 64), (2, 201, 64), (1, 401, 80)] {
        let qkv = exact("qkv", &[3, 2, heads, t, d]);
        let [got, want] = [precision, FactorType::F32].map(|precision| Tensor::filled_by(|y| cpu::attention(&qkv, precision, y)));
        let error = relative_l2(got.data(), want.data());
        assert!(error < 4e-3, "{heads} heads of {t} x {d}: relative L2 {error:.1e}");
    }
}

/// Every factor of every product is off by up to 2^-9, so outputs are off by 0.5 to 1 percent.
const TOLERANCE: f64 = 1.2e-2;

fn check(name: &str) {
    let Some(precision) = bf16() else { return };
    let golden = Golden::open(name);
    let mut model = ModelSource::parse(&golden.weights).and_then(|source| source.open()).expect("seeded weights");
    model.set_rope(golden.rope);
    let layers = cpu::layers(model.weights().expect("seeded weights"), precision);
    let features = cpu::forward(&layers, model.config(), &golden.image, golden.mask.as_deref(), &golden.request).expect("features");
    let rows = golden.compare(&features);
    let table: Vec<String> = rows.iter().map(|(tensor, error, _)| format!("{name} {tensor}: relative L2 {error:.2e}")).collect();
    println!("{}", table.join("\n"));
    assert!(rows.iter().all(|(_, error, _)| *error <= TOLERANCE), "beyond {TOLERANCE}:\n{}", table.join("\n"));
}

#[test]
fn base_at_224() {
    check("base_224_rope-bf16");
}

#[test]
fn base_batched_and_not_square() {
    check("base_b2_160x240_rope-f32");
}

#[test]
fn tiny_masked() {
    check("tiny_b2_48x80_rope-bf16_masked");
}

#[test]
fn threads_change_no_bit() {
    let Some(precision) = bf16() else { return };
    let model = Model::seeded(0, ModelSize::Tiny);
    let layers = cpu::layers(model.weights().expect("seeded weights"), precision);
    let image = Tensor::new([1, 1, 400, 416], uniform("image", 400 * 416, 3));
    let bits = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let features = pool.install(|| cpu::forward(&layers, model.config(), &image, None, &Request::default())).expect("features");
        features.x_norm.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    let single_thread = bits(1);
    assert!([2, 3, 7].iter().all(|&threads| bits(threads) == single_thread));
}
