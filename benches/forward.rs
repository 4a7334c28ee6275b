//! One block of ViT-B at T = 201, and the whole forward pass at 224, in declared FLOPs a second. Results are first
//! compared with the CPU's.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meddino::Tensor;
use meddino::gpu::{Context, Executable, Gpu, GpuWeights, Selection};
use meddino::graph::{Graph, Role, TensorId, plan};
use meddino::kernels::Recorder;
use meddino::verify::TapDistance;
use meddino::vit::config::ModelSize;
use meddino::vit::config::{Config, Grid};
use meddino::vit::features::Request;
use meddino::vit::forward;
use meddino::vit::model::Model;
use meddino::vit::rope;
use meddino::vit::weights::Weights;

use common::noise;

/// The declared FLOPs of a graph.
fn flops(graph: &Graph) -> u64 {
    graph.steps().iter().map(|step| step.cost.flops).sum()
}

/// Prepares block 0 alone, from x [1, T, C] to [1, T, C], and compares it with the CPU's block.
fn block(context: &Context, config: &Config, weights: &Weights<Tensor>, grid: Grid) -> (Executable, TensorId) {
    let tokens = config.prefix_tokens() + grid.patches();
    let specs = Weights::specs(config);
    let mut g = Recorder::new(*context.limits());
    let ids = specs.map(&mut |spec| g.tensor(&spec.name, spec.shape.clone(), Role::Weight));
    let x = g.tensor("x", [1, tokens, config.embed_dim], Role::Input);
    let table = g.tensor("rope", [2, grid.patches(), config.head_dim() / 2], Role::Input);
    let y = forward::block(&mut g, config, "blocks.0", &ids.blocks[0], x, table).expect("within the limits");
    g.keep(y);
    let graph = g.finish();
    let planned = plan(&graph, context.limits()).expect("within the limits");
    let names = specs.leaves().into_iter().map(|spec| spec.name.as_str());
    let on_device = GpuWeights::upload(context, names.zip(weights.leaves())).expect("room for the weights");
    let executable = Executable::new(context, graph, planned, &on_device).expect("a prepared block");

    // The CPU's block maps one tap of an image to the next.
    let image = noise(1, &[1, 3, grid.rows * config.patch_size, grid.cols * config.patch_size]);
    let table_values = rope::table(config, grid);
    let weights = meddino::cpu::layers(weights.clone(), meddino::cpu::FactorType::F32);
    let patches = meddino::cpu::patch_embed(&image, &weights.patch_embed, config.patch_size);
    let before = meddino::cpu::tokens(&patches, &weights.cls_token, weights.storage_tokens.as_ref(), None);
    let shallow = Config { depth: 1, ..config.clone() };
    let first = Weights { blocks: weights.blocks[..1].to_vec(), ..weights };
    let request = Request { prenorm: true, ..Request::default() };
    let want = meddino::cpu::forward(&first, &shallow, &image, None, &request).expect("features").x_prenorm.expect("asked for");
    executable.write(table, 0, table_values.data()).expect("written");
    executable.write(x, 0, before.data()).expect("written");
    executable.run().expect("a run");
    let got = executable.read_all(&[y]).expect("a result").remove(0);
    let error = TapDistance::new("block", &got, &want).relative_l2;
    assert!(error < 2e-4, "the block is wrong: relative L2 {error:.2e}");
    (executable, y)
}

/// Submits the steps and waits.
fn run(executable: &Executable) {
    executable.run().expect("a run");
    executable.context().device().poll(meddino::gpu::wgpu::PollType::wait_indefinitely()).expect("an end");
}

fn benches(criterion: &mut Criterion) {
    // The context is tuned as the model's is.
    let opened = Context::new(&Selection::Auto).map(|context| context.without_shader_checks());
    let context = match opened {
        Ok(context) => context,
        Err(problem) => {
            assert!(std::env::var_os("MEDDINO_REQUIRE_GPU").is_none_or(|v| v != "1"), "MEDDINO_REQUIRE_GPU=1, but {problem}");
            eprintln!("SKIPPED benches of the forward pass: {problem}");
            return;
        }
    };
    println!("on {}", context.info().name);
    let model = Model::seeded(0, ModelSize::Base);
    let (config, weights) = (model.config().clone(), model.weights().expect("seeded weights"));

    let mut group = criterion.benchmark_group("forward");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    let (executable, _) = block(&context, &config, &weights, Grid { rows: 14, cols: 14 });
    group.throughput(Throughput::Elements(flops(executable.graph())));
    group.bench_function("block/T=201", |b| b.iter(|| run(&executable)));
    drop(executable);

    let (image, request) = (noise(1, &[1, 1, 224, 224]), Request::default());
    let gpu = Gpu::new(&context, &config, &weights).expect("room for the weights");
    let got = gpu.forward(&image, None, &request).expect("features");
    let want =
        meddino::cpu::forward(&meddino::cpu::layers(weights.clone(), meddino::cpu::FactorType::F32), &config, &image, None, &request)
            .expect("features");
    let error = TapDistance::new("x_norm", &got.x_norm, &want.x_norm).relative_l2;
    assert!(error < 2e-4, "the forward pass is wrong: relative L2 {error:.2e}");
    let input = forward::BatchShape { batch: 1, channels: 1, height: 224, width: 224, masked: false };
    let (graph, _) = forward::record(&config, *context.limits(), input, &request).expect("within the limits");
    group.throughput(Throughput::Elements(flops(&graph)));
    group.bench_function("whole/224", |b| b.iter(|| gpu.forward(&image, None, &request).expect("features")));
    group.finish();
}

criterion_group!(forward_pass, benches);
criterion_main!(forward_pass);
