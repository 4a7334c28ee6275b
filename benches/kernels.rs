//! Every kernel at the shapes of a ViT-B: its result is compared with its CPU twin's, then it is timed.
//!
//! Products and attention are counted in FLOPs, so criterion's Gelem/s are GFLOP/s. The other kernels are memory-bound
//! and are counted in bytes moved. Images have 224, 512 and 896 pixels a side (201, 1029 and 3141 tokens). A software
//! GPU runs only 224, unless `MEDDINO_BENCH_ALL=1`.

mod common;

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use meddino::Tensor;
use meddino::cpu;
use meddino::ct::{self, Size, Window, prepare};
use meddino::gpu::{Context, Executable, GpuWeights, Selection};
use meddino::graph::{Elem, Role, TensorId, plan};
use meddino::kernels::{Epilogue, Field, Heads, Mosaic, Recorder, Rotation, Values, taps};
use meddino::maps::{Moments, cosine};
use meddino::verify::TapDistance;
use meddino::vit::config::{Config, Grid, RopePrecision};
use meddino::vit::decoder::{DECODER_EPS, Decoder, Shape};
use meddino::vit::rope::table;
use meddino::vit::scores::{self, Piece};
use meddino::vit::weights::{Linear, Norm, Spec};

use common::noise;

/// The allowed relative L2 of a kernel from its twin. Both are within 1e-6 of exact arithmetic.
const TOLERANCE: f64 = 3e-6;

/// One operation: its recording, its input values, and its twin's results.
struct Case {
    name: &'static str,
    recorder: Recorder,
    inputs: Vec<(TensorId, Tensor)>,
    results: Vec<TensorId>,
    want: Vec<f32>,
}

impl Case {
    fn new(name: &'static str, context: &Context) -> Self {
        Self { name, recorder: Recorder::new(*context.limits()), inputs: Vec::new(), results: Vec::new(), want: Vec::new() }
    }

    fn input(&mut self, values: &Tensor) -> TensorId {
        let id = self.recorder.tensor(format!("input {}", self.inputs.len()), values.shape(), Role::Input);
        self.inputs.push((id, values.clone()));
        id
    }

    fn done(mut self, results: &[TensorId], want: Tensor) -> Self {
        results.iter().for_each(|&id| self.recorder.keep(id));
        self.results = results.to_vec();
        self.want = want.into_data();
        self
    }

    fn run(self, criterion: &mut Criterion, context: &Context, tokens: usize) {
        let graph = self.recorder.finish();
        let steps = graph.steps();
        let (flops, bytes) = steps.iter().fold((0, 0), |(flops, bytes), s| (flops + s.cost.flops, bytes + s.cost.bytes));
        let planned = plan(&graph, context.limits()).expect("the kernel keeps to the device's limits");
        let executable = Executable::new(context, graph, planned, &GpuWeights::default()).expect("the kernel compiles");
        for (id, values) in &self.inputs {
            executable.write(*id, 0, values.data()).expect("inputs are written");
        }
        self.results.iter().for_each(|&id| executable.zero(id).expect("results begin as zeros, for some are sums"));
        executable.run().expect("the kernel runs");
        let got: Vec<f32> = executable.read_all(&self.results).expect("results are read").into_iter().flat_map(Tensor::into_data).collect();
        let flat = |values: Vec<f32>| Tensor::new([values.len()], values);
        let error = TapDistance::new(self.name, &flat(got), &flat(self.want)).relative_l2;
        assert!(error <= TOLERANCE, "{}: {error:.1e} from its twin: not worth timing", self.name);

        let mut group = criterion.benchmark_group(self.name);
        group.throughput(if flops > 10 * bytes { Throughput::Elements(flops) } else { Throughput::Bytes(bytes) });
        group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        let once = |()| {
            executable.run().expect("the kernel runs");
            context.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        };
        group.bench_function(format!("{tokens} tokens"), |bencher| bencher.iter_batched(|| (), once, BatchSize::PerIteration));
        group.finish();
    }
}

/// A linear layer. `Bias` as its epilogue means no epilogue, because `attn.qkv` has no bias.
fn matmul(
    name: &'static str,
    context: &Context,
    tokens: usize,
    [n, k]: [usize; 2],
    epilogue: &cpu::LayerEpilogue,
    residual: &Tensor,
) -> Case {
    let (x, weight, bias) = (noise(1, &[1, tokens, k]), noise(2, &[n, k]), noise(3, &[n]));
    let mut case = Case::new(name, context);
    let (x_id, weight_id) = (case.input(&x), case.input(&weight));
    let (bias, gpu, cpu) = match epilogue {
        cpu::LayerEpilogue::Bias => (None, Epilogue::None, cpu::LayerEpilogue::Bias),
        cpu::LayerEpilogue::BiasGelu => (Some(bias.clone()), Epilogue::BiasGelu(case.input(&bias)), cpu::LayerEpilogue::BiasGelu),
        cpu::LayerEpilogue::LayerScaleResidual(gamma) => {
            let (bias_id, gamma_id, residual_id) = (case.input(&bias), case.input(gamma), case.input(residual));
            let gpu = Epilogue::BiasLayerScaleResidual { bias: bias_id, gamma: gamma_id, residual: residual_id };
            (Some(bias), gpu, cpu::LayerEpilogue::LayerScaleResidual(gamma))
        }
    };
    let y = case.recorder.matmul(name, x_id, weight_id, gpu).expect("recorded");
    let mut want = residual.clone();
    cpu::matmul(&x, &Linear { weight, bias }.into(), cpu, &mut want);
    case.done(&[y], want)
}

fn layers(context: &Context, config: &Config, tokens: usize) -> Vec<Case> {
    let (c, hidden) = (config.embed_dim, config.ffn_dim);
    let (gamma, residual) = (noise(4, &[c]), noise(5, &[1, tokens, c]));
    let scaled = cpu::LayerEpilogue::LayerScaleResidual(&gamma);
    vec![
        matmul("matmul attn.qkv", context, tokens, [3 * c, c], &cpu::LayerEpilogue::Bias, &residual),
        matmul("matmul attn.proj", context, tokens, [c, c], &scaled, &residual),
        matmul("matmul mlp.fc1", context, tokens, [hidden, c], &cpu::LayerEpilogue::BiasGelu, &residual),
        matmul("matmul mlp.fc2", context, tokens, [c, hidden], &scaled, &residual),
    ]
}

fn patch_embed(context: &Context, config: &Config, grid: Grid) -> Case {
    let (c, p) = (config.embed_dim, config.patch_size);
    let image = noise(1, &[1, 1, grid.rows * p, grid.cols * p]);
    let (weight, bias) = (noise(2, &[c, config.in_chans, p, p]), noise(3, &[c]));
    let mut case = Case::new("patch_embed", context);
    let ids = [&image, &weight, &bias].map(|values| case.input(values));
    let y = case.recorder.patch_embed("patch_embed", ids[0], ids[1], ids[2]).expect("recorded");
    case.done(&[y], cpu::patch_embed(&image, &Linear { weight, bias: Some(bias) }.into(), p))
}

fn tokens(context: &Context, config: &Config, grid: Grid) -> Case {
    let (c, r, p) = (config.embed_dim, config.n_storage_tokens, grid.patches());
    let (cls, storage, patches) = (noise(1, &[1, 1, c]), noise(2, &[1, r, c]), noise(3, &[1, p, c]));
    let mut case = Case::new("tokens", context);
    let ids = [&cls, &storage, &patches].map(|values| case.input(values));
    let y = case.recorder.tokens("tokens", ids[2], ids[0], Some(ids[1]), None).expect("recorded");
    case.done(&[y], Tensor::new([1, 1 + r + p, c], [cls.data(), storage.data(), patches.data()].concat()))
}

fn layernorm(context: &Context, config: &Config, tokens: usize) -> Case {
    let c = config.embed_dim;
    let (x, norm) = (noise(1, &[1, tokens, c]), Norm { weight: noise(2, &[c]), bias: noise(3, &[c]) });
    let mut case = Case::new("layernorm", context);
    let ids = [&x, &norm.weight, &norm.bias].map(|values| case.input(values));
    let y = case.recorder.layernorm("layernorm", ids[0], ids[1], ids[2], config.norm_eps).expect("recorded");
    case.done(&[y], Tensor::filled_by(|y| cpu::layernorm(&x, &norm, config.norm_eps, y)))
}

/// A slice of one tile whose pixels all have the weight 1.
fn onto(case: &mut Case, classes: usize, grid: Grid, side: usize) -> Mosaic {
    let (height, width) = (grid.rows * side, grid.cols * side);
    Mosaic {
        sums: case.recorder.joined(Elem::F32, "sums", [classes, height, width]),
        weights: case.input(&Tensor::new([height, width], vec![1.0; height * width])),
        places: case.input(&Tensor::zeros([1, 4])),
        grid: [grid.rows, grid.cols],
        side,
    }
}

/// The decoder of a multiscale trainer: the norm of its last stage, the scatter of its pixels into the maps, and the
/// whole decoder.
fn decode(context: &Context, config: &Config, grid: Grid) -> [Case; 3] {
    const CLASSES: usize = 14;
    let channels = [4 * config.embed_dim, 384, 192, 96, 48];
    let (side, area) = (config.patch_size, config.patch_size * config.patch_size);
    let pixels = grid.patches() * area;
    let [x, scores] = [48, CLASSES].map(|n| noise(1, &[pixels, n]));
    let norm = Norm { weight: noise(2, &[48]), bias: noise(3, &[48]) };
    let mut layernorm_gelu = Case::new("layernorm_gelu", context);
    let ids = [&x, &norm.weight, &norm.bias].map(|values| layernorm_gelu.input(values));
    let y = layernorm_gelu.recorder.layernorm_gelu("layernorm_gelu", ids[0], ids[1], ids[2], DECODER_EPS).expect("recorded");

    let mut mosaic = Case::new("mosaic", context);
    let id = mosaic.input(&scores);
    let to = onto(&mut mosaic, CLASSES, grid, side);
    mosaic.recorder.mosaic("mosaic", id, &(0..grid.patches()), &to).expect("recorded");
    let mut want = vec![0.0; CLASSES * pixels];
    cpu::mosaic(scores.data(), 0, grid, side, &mut want);

    let shape = Shape { layers: vec![2, 5, 8, 11], channels: channels.to_vec(), classes: CLASSES };
    let scaled = |spec: &Spec| {
        let by = if spec.shape.len() == 2 { (spec.shape[1] as f32).sqrt().recip() } else { 1.0 };
        Tensor::new(spec.shape.clone(), noise(7, &spec.shape).data().iter().map(|v| v * by).collect::<Vec<_>>())
    };
    let decoder = Decoder::linear_specs(&shape).map(&mut |spec: &Spec| scaled(spec));
    let tokens = noise(8, &[1, grid.patches(), channels[0]]);
    let mut whole = Case::new("decode", context);
    let d = decoder.map(&mut |leaf: &Tensor| whole.input(leaf));
    let pieces: Vec<Piece> = scores::pieces(&mut whole.recorder, &shape, grid.patches())
        .into_iter()
        .map(|Piece { patches, .. }| {
            let values = tokens.data()[patches.start * channels[0]..patches.end * channels[0]].to_vec();
            Piece { tokens: whole.input(&Tensor::new([patches.len(), channels[0]], values)), patches }
        })
        .collect();
    let whole_to = onto(&mut whole, CLASSES, grid, side);
    scores::decode(&mut whole.recorder, &d, &pieces, &whole_to).expect("recorded");
    let layers = cpu::decoder_layers(decoder, cpu::FactorType::F32);
    [
        layernorm_gelu.done(&[y], Tensor::filled_by(|y| cpu::layernorm_gelu(&x, &norm, DECODER_EPS, y))),
        mosaic.done(&[to.sums], Tensor::new([CLASSES, pixels], want)),
        whole.done(&[whole_to.sums], cpu::decode(&layers, &[&tokens], grid)),
    ]
}

fn gelu(context: &Context, config: &Config, tokens: usize) -> Case {
    let x = noise(1, &[1, tokens, config.ffn_dim]);
    let mut case = Case::new("gelu", context);
    let id = case.input(&x);
    let y = case.recorder.gelu("gelu", id).expect("recorded");
    let mut want = x;
    cpu::gelu(want.data_mut());
    case.done(&[y], want)
}

fn rope_and_attention(context: &Context, config: &Config, grid: Grid) -> [Case; 2] {
    let (n, d, t) = (config.num_heads, config.head_dim(), config.prefix_tokens() + grid.patches());
    let (x, weight, angles) = (noise(1, &[1, t, n * d]), noise(2, &[3 * n * d, n * d]), table(config, grid));
    let layer = Linear { weight: weight.clone(), bias: None }.into();
    let qkv = Tensor::filled_by(|y| cpu::matmul(&x, &layer, cpu::LayerEpilogue::Bias, y));
    let rotated = Tensor::filled_by(|y| cpu::rope(&qkv, &angles, n, config.prefix_tokens(), RopePrecision::F32, y));
    let mut rope = Case::new("rope", context);
    let [x, weight, table] = [&x, &weight, &angles].map(|values| rope.input(values));
    let heads = rope.recorder.rope("rope", x, weight, None, Rotation { table, heads: n, bf16: false }).expect("recorded");
    let mut attention = Case::new("attention", context);
    let qkv = [0, 1, 2].map(|part| {
        let values = rotated.data()[part * n * t * d..(part + 1) * n * t * d].to_vec();
        attention.input(&Tensor::new([1, n, t, d], values))
    });
    let qkv = attention.recorder.heads("attention", qkv);
    let y = attention.recorder.attention("attention", qkv).expect("recorded");
    let want = Tensor::filled_by(|y| cpu::attention(&rotated, cpu::FactorType::F32, y));
    [rope.done(&[heads.parts()[0].0], laid_out(&heads, &rotated)), attention.done(&[y], want)]
}

/// Returns q, k and v [3, 1, N, T, D] as they lie in the result of `rope`, whose heads have another order.
fn laid_out(heads: &Heads, qkv: &Tensor) -> Tensor {
    let (d, len) = (heads.shape()[3], qkv.data().len() / 3);
    let begins = heads.parts().map(|(_, first)| first);
    let mut laid = vec![0.0; begins[2] + len];
    for (part, values) in qkv.data().chunks_exact(len).enumerate() {
        for (i, to) in laid[begins[part]..][..len].iter_mut().enumerate() {
            *to = values[i - i % d + if part == 2 { i % d } else { heads.source(i % d) }];
        }
    }
    Tensor::new([laid.len()], laid)
}

/// The kernels before and after the model: those that prepare a slice, and those that draw maps of tokens.
fn around_the_model(context: &Context, config: &Config, grid: Grid) -> [Case; 3] {
    const SLICE: usize = 512;
    let (height, width) = (grid.rows * config.patch_size, grid.cols * config.patch_size);
    let slice = Tensor::new([SLICE, SLICE], noise(1, &[SLICE, SLICE]).data().iter().map(|v| v * 1500.0).collect::<Vec<_>>());
    let mut resize = Case::new("resize", context);
    let x = resize.input(&slice);
    let lines = [height, width].map(|side| {
        let table = taps(&ct::taps(SLICE, side));
        resize.input(&Tensor::new([side, table.len() / side], table))
    });
    let Window { lo, hi, mean, std } = Window::DEMO;
    let (field, values) = (
        Field { first: 0, height: SLICE, width: SLICE, channels: 1 },
        Values { lo, hi, mean, divisor: (f64::from(std) + 1e-8) as f32, ..Values::SAME },
    );
    let image = resize.recorder.resize("resize", x, field, lines, values, [1, 1, height, width]).expect("recorded");

    let c = config.embed_dim;
    let tokens = noise(2, &[config.prefix_tokens() + grid.patches(), c]);
    let query = tokens.data()[3 * c..4 * c].to_vec();
    let mut similarity = Case::new("similarity", context);
    let ids = [&tokens, &Tensor::new([c], query.clone())].map(|values| similarity.input(values));
    let cosines = similarity.recorder.similarity("similarity", ids[0], ids[1]).expect("recorded");

    let mut moments = Moments::new(c);
    moments.add(&tokens);
    let fitted = moments.basis().expect("noise has directions");
    let mut basis = Case::new("basis", context);
    let ids = [&tokens, fitted.mean(), &fitted.whitened()].map(|values| basis.input(values));
    let scores = basis.recorder.basis("basis", ids[0], ids[1], ids[2]).expect("recorded");
    [
        resize.done(&[image], prepare(&slice, &Window::DEMO, Size::Exact { height, width })),
        similarity.done(&[cosines], cosine(&tokens, &query)),
        basis.done(&[scores], fitted.scores(&tokens)),
    ]
}

fn main() {
    let context = match Context::new(&Selection::Auto) {
        Ok(context) => context,
        Err(problem) => {
            eprintln!("SKIPPED: {problem}");
            return;
        }
    };
    eprintln!("on {}", context.info().name);
    let config = Config::vit_base();
    let mut criterion = Criterion::default().configure_from_args();
    let all = !context.abilities().is_software() || std::env::var_os("MEDDINO_BENCH_ALL").is_some_and(|v| v == "1");
    for side in [14, 32, 56].into_iter().take(if all { 3 } else { 1 }) {
        let grid = Grid { rows: side, cols: side };
        let t = config.prefix_tokens() + grid.patches();
        let mut cases = vec![patch_embed(&context, &config, grid), tokens(&context, &config, grid)];
        cases.extend([layernorm(&context, &config, t), gelu(&context, &config, t)]);
        cases.extend(rope_and_attention(&context, &config, grid));
        cases.extend(layers(&context, &config, t));
        cases.extend(decode(&context, &config, grid));
        cases.extend(around_the_model(&context, &config, grid));
        cases.into_iter().for_each(|case| case.run(&mut criterion, &context, t));
    }
    criterion.final_summary();
}
