//! The CPU's kernels at the shapes of a ViT-B for an image of 224 (T = 201 tokens), and one block. Products are counted
//! in FLOPs, so criterion's Gelem/s are GFLOP/s. Memory-bound kernels are counted in bytes read and written. The tests
//! check results; the benches only check that they are finite.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use meddino::Tensor;
use meddino::cpu::{self, Bf16, FactorType, Layer, LayerEpilogue};
use meddino::vit::config::ModelSize;
use meddino::vit::config::{Config, Grid};
use meddino::vit::features::Request;
use meddino::vit::model::Model;
use meddino::vit::rope::table;
use meddino::vit::weights::{Linear, Norm};

use common::noise;

const GRID: Grid = Grid { rows: 14, cols: 14 };

fn row(group: &mut BenchmarkGroup<WallTime>, name: &str, throughput: Throughput, run: impl Fn() -> Tensor) {
    assert!(run().data().iter().all(|v| v.is_finite()), "{name}");
    group.throughput(throughput);
    group.bench_function(name, |bencher| bencher.iter_batched(|| (), |()| run(), BatchSize::PerIteration));
}

/// The precisions of this machine, f32 and if available bf16, each with the suffix of its rows' names.
fn precisions() -> impl Iterator<Item = (FactorType, &'static str)> {
    [(FactorType::F32, "")].into_iter().chain(Bf16::here().map(|bf16| (FactorType::Bf16(bf16), " bf16")))
}

/// The linear layers and attention.
fn products(criterion: &mut Criterion) {
    let config = Config::vit_base();
    let (c, hidden, heads, t) = (config.embed_dim, config.ffn_dim, config.num_heads, config.prefix_tokens() + GRID.patches());
    let mut group = group(criterion);
    let gamma = noise(4, &[c]);
    for (precision, suffix) in precisions() {
        for (name, n, k) in [("attn.qkv", 3 * c, c), ("attn.proj", c, c), ("mlp.fc1", hidden, c), ("mlp.fc2", c, hidden)] {
            let layer = Layer::new(Linear { weight: noise(2, &[n, k]), bias: Some(noise(3, &[n])) }, precision);
            let (x, residual) = (noise(1, &[1, t, k]), noise(5, &[1, t, n]));
            row(&mut group, &format!("matmul {name}{suffix}"), Throughput::Elements((2 * t * n * k) as u64), || {
                let epilogue = match name {
                    "attn.qkv" => LayerEpilogue::Bias,
                    "mlp.fc1" => LayerEpilogue::BiasGelu,
                    _ => LayerEpilogue::LayerScaleResidual(&gamma),
                };
                let mut y = residual.clone();
                cpu::matmul(&x, &layer, epilogue, &mut y);
                y
            });
        }
        let rotated = noise(1, &[3, 1, heads, t, config.head_dim()]);
        row(&mut group, &format!("attention{suffix}"), Throughput::Elements((4 * t * t * c) as u64), || {
            Tensor::filled_by(|y| cpu::attention(&rotated, precision, y))
        });
    }
    group.finish();
}

/// The memory-bound kernels, which always run in f32.
fn elementwise(criterion: &mut Criterion) {
    let config = Config::vit_base();
    let (c, hidden, heads, t) = (config.embed_dim, config.ffn_dim, config.num_heads, config.prefix_tokens() + GRID.patches());
    let mut group = group(criterion);
    let qkv = noise(1, &[1, t, 3 * c]);
    let angles = table(&config, GRID);
    row(&mut group, "rope", Throughput::Bytes((4 * 2 * 3 * t * c) as u64), || {
        Tensor::filled_by(|y| cpu::rope(&qkv, &angles, heads, config.prefix_tokens(), config.rope, y))
    });
    let (x, norm) = (noise(1, &[1, t, c]), Norm { weight: noise(2, &[c]), bias: noise(3, &[c]) });
    row(&mut group, "layernorm", Throughput::Bytes((4 * 2 * t * c) as u64), || {
        Tensor::filled_by(|y| cpu::layernorm(&x, &norm, config.norm_eps, y))
    });
    let x = noise(1, &[1, t, hidden]);
    row(&mut group, "gelu", Throughput::Bytes((4 * 2 * t * hidden) as u64), || {
        let mut y = x.clone();
        cpu::gelu(y.data_mut());
        y
    });
    group.finish();
}

fn group(criterion: &mut Criterion) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group("cpu/T=201");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group
}

/// A model of one block, patch embedding and final norm included.
fn block(criterion: &mut Criterion) {
    let model = Model::seeded(0, ModelSize::Base);
    let mut weights = model.weights().expect("seeded weights");
    weights.blocks.truncate(1);
    let config = Config { depth: 1, ..model.config().clone() };
    let image = noise(1, &[1, 1, 224, 224]);
    let mut group = group(criterion);
    for (precision, suffix) in precisions() {
        let layers = cpu::layers(weights.clone(), precision);
        row(&mut group, &format!("a model of one block{suffix}"), Throughput::Elements(config.product_flops(1, GRID)), || {
            cpu::forward(&layers, &config, &image, None, &Request::default()).expect("features").x_norm
        });
    }
    group.finish();
}

criterion_group!(on_the_cpu, products, elementwise, block);
criterion_main!(on_the_cpu);
