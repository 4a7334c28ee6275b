//! The planner on random graphs and on the model's graph.

use meddino::graph::{
    BufferPlace, Cost, Dispatch, Elem, Footprint, Graph, Kernel, Limits, Operand, Plan, Role, TensorId, TensorInfo, plan,
};
use meddino::vit::config::Config;
use meddino::vit::features::Request;
use meddino::vit::forward::{BatchShape, record};

/// Deterministic pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn dispatch(label: String, reads: Vec<Operand>, write: Operand) -> Dispatch {
    let kernel = Kernel { name: "nothing", parts: Vec::new(), constants: Vec::new() };
    Dispatch { label, kernel, reads, write, params: Vec::new(), workgroups: [1; 3], cost: Cost::default() }
}

/// A graph of operations that read up to three earlier tensors each. Some consist of several dispatches over disjoint
/// rows, some results are never read, and some are outputs.
fn random_graph(seed: u64) -> Graph {
    let mut dice = Dice(seed);
    let mut graph = Graph::new();
    let mut readable: Vec<TensorId> = vec![graph.tensor("image", [64, 100], Role::Input), graph.tensor("weight", [64, 30], Role::Weight)];
    for op in 0..20 + dice.roll(60) {
        let role = if dice.roll(8) == 0 { Role::Output } else { Role::Intermediate };
        let parts = [1, 1, 2, 4][dice.roll(4)];
        let rows = 64 * (1 + dice.roll(6));
        let y = graph.tensor(format!("t{op}"), [parts * rows], role);
        let reads: Vec<TensorId> = (0..=dice.roll(3))
            .map(|_| {
                if dice.roll(4) == 0 {
                    readable[dice.roll(readable.len())]
                } else {
                    readable[readable.len() - 1 - dice.roll(readable.len().min(4))]
                }
            })
            .collect();
        for part in 0..parts {
            let reads = reads.iter().map(|&id| graph.whole(id)).collect();
            graph.push(dispatch(format!("op{op}.{part}"), reads, Operand { tensor: y, offset: part * rows, len: rows }));
        }
        readable.push(y);
    }
    graph
}

/// Runs a planned graph on simulated buffers, whose elements hold the name of the tensor last written there, and checks
/// each read.
fn simulate(graph: &Graph, planned: &Plan) {
    let mut slots: Vec<Vec<Option<(TensorId, usize)>>> = planned.slots().iter().map(|&bytes| vec![None; bytes as usize / 4]).collect();
    let buffer_of = |id: TensorId| match planned.place(id) {
        BufferPlace::Slot(slot) => Some(slot),
        BufferPlace::Weight | BufferPlace::Own | BufferPlace::Nowhere => None,
    };
    for step in graph.steps() {
        for read in &step.reads {
            let Some(slot) = buffer_of(read.tensor) else { continue };
            assert_ne!(Some(slot), buffer_of(step.write.tensor), "{} binds slot {slot} both ways", step.label);
            let contents = &slots[slot][read.offset..read.offset + read.len];
            let is_intact = contents.iter().zip(read.offset..).all(|(&element, i)| element == Some((read.tensor, i)));
            assert!(is_intact, "{} reads {:?}, and something else stands there", step.label, graph.info(read.tensor));
        }
        if let Some(slot) = buffer_of(step.write.tensor) {
            let Operand { tensor, offset, len } = step.write;
            for (element, i) in slots[slot][offset..offset + len].iter_mut().zip(offset..) {
                *element = Some((tensor, i));
            }
        }
    }
}

#[test]
fn no_live_tensor_is_overwritten_in_random_graphs() {
    let mut shared = 0;
    for seed in 0..300 {
        let graph = random_graph(seed);
        let planned = plan(&graph, &Limits::DEFAULT).unwrap();
        simulate(&graph, &planned);
        let Footprint { slots, lower_bound, live, .. } = planned.bytes();
        assert!(slots >= lower_bound && lower_bound >= live, "seed {seed}: {:?}", planned.bytes());
        assert_eq!(slots, planned.slots().iter().sum::<u64>());
        let intermediates = graph.ids().filter(|&id| matches!(planned.place(id), BufferPlace::Slot(_))).count();
        shared += intermediates - planned.slots().len();
    }
    assert!(shared > 300, "slots are hardly shared: {shared}");
}

#[test]
fn roles_decide_who_owns_a_buffer() {
    let graph = random_graph(7);
    let planned = plan(&graph, &Limits::DEFAULT).unwrap();
    for id in graph.ids() {
        let touched = graph.steps().iter().any(|s| s.write.tensor == id || s.reads.iter().any(|r| r.tensor == id));
        let fits = match (graph.info(id).role, planned.place(id)) {
            (Role::Weight, BufferPlace::Weight) | (Role::Input | Role::Output, BufferPlace::Own) => true,
            (Role::Intermediate, BufferPlace::Slot(slot)) => touched && planned.slots()[slot] >= graph.info(id).bytes(),
            (Role::Intermediate, BufferPlace::Nowhere) => !touched,
            _ => false,
        };
        assert!(fits, "{:?} in {:?}", graph.info(id), planned.place(id));
    }
    let total = |role| graph.tensors().iter().filter(|t| t.role == role).map(TensorInfo::bytes).sum::<u64>();
    let bytes = planned.bytes();
    assert_eq!((bytes.weights, bytes.inputs, bytes.outputs), (64 * 30 * 4, 64 * 100 * 4, total(Role::Output)));
}

#[test]
fn tensors_beyond_a_devices_limits_are_refused_by_name() {
    let graph = |workgroups| {
        let mut graph = Graph::new();
        let x = graph.tensor("image", [1000], Role::Input);
        let y = graph.tensor("blocks.3.mlp.fc1", [2000], Role::Output);
        let mut step = dispatch("blocks.3.mlp.fc1".into(), vec![Operand { tensor: x, offset: 3, len: 500 }], graph.whole(y));
        step.workgroups = workgroups;
        graph.push(step);
        graph
    };
    let wide = Limits { alignment: 4, ..Limits::DEFAULT };
    assert!(plan(&graph([65_535; 3]), &wide).is_ok());
    let refused = |workgroups, limits, words: &[&str]| {
        let error = plan(&graph(workgroups), &limits).unwrap_err();
        assert!(matches!(error, meddino::Error::Gpu { kind: meddino::error::GpuFailure::TooLarge, .. }), "{error:?}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    refused([1; 3], Limits { max_buffer: 7996, ..wide }, &["blocks.3.mlp.fc1 [2000]", "8000", "7996", "`size`"]);
    refused([1; 3], Limits { max_binding: 7996, ..wide }, &["blocks.3.mlp.fc1", "binds 8000", "7996", "`size`"]);
    refused([1, 1, 65_536], wide, &["blocks.3.mlp.fc1", "65536", "65535"]);
    refused([1; 3], Limits::DEFAULT, &["blocks.3.mlp.fc1", "byte 12", "256"]);
}

#[test]
#[should_panic(expected = "reads and writes")]
fn one_tensor_is_not_read_and_written_by_one_dispatch() {
    let mut graph = Graph::new();
    let x = graph.tensor("x", [8], Role::Intermediate);
    graph.push(dispatch("twist".into(), vec![Operand { tensor: x, offset: 0, len: 4 }], Operand { tensor: x, offset: 4, len: 4 }));
}

#[test]
#[should_panic(expected = "before it is written")]
fn nothing_is_read_before_it_is_written() {
    let mut graph = Graph::new();
    let (x, y) = (graph.tensor("x", [8], Role::Intermediate), graph.tensor("y", [8], Role::Output));
    graph.push(dispatch("early".into(), vec![graph.whole(x)], graph.whole(y)));
    let _ = plan(&graph, &Limits::DEFAULT);
}

/// The formula behind reported speeds counts the same products as the costs that kernels declare.
#[test]
fn the_models_formula_counts_the_products_that_its_graph_declares() {
    for (config, [batch, channels, height, width]) in
        // The operations of the last one are more than 32 bits count.
        [
            (Config::vit_base(), [1, 3, 224, 224]),
            (Config::vit_base(), [2, 1, 160, 240]),
            (Config::tiny(), [3, 3, 70, 115]),
            (Config::vit_base(), [1, 1, 896, 896]),
        ]
    {
        let input = BatchShape { batch, channels, height, width, masked: false };
        let (graph, _) = record(&config, Limits::DEFAULT, input, &Request::default()).unwrap();
        let declared: u64 = graph
            .steps()
            .iter()
            .filter(|step| ["patch_embed", "matmul", "rope", "attention"].contains(&step.kernel.name))
            .map(|step| step.cost.flops)
            .sum();
        let grid = config.grid(height, width).unwrap();
        let tokens = config.prefix_tokens() + grid.patches();
        // Attention's declared cost includes its softmax: four operations a score.
        let softmax: u64 = [4, batch, config.depth, config.num_heads, tokens, tokens].iter().map(|&n| n as u64).product();
        // Rotation takes three operations for each element of queries and keys.
        let rotation: u64 = [3, batch, config.depth, tokens, 2 * config.embed_dim].iter().map(|&n| n as u64).product();
        assert_eq!(declared - softmax - rotation, batch as u64 * config.product_flops(channels, grid), "{height} x {width}");
    }
}

/// Each dispatch costs a GPU some microseconds, which is much of a small image's pass. A block has seven.
#[test]
fn a_pass_takes_few_dispatches() {
    for (side, limits) in [(224, Limits::DEFAULT), (896, Limits::DEFAULT), (896, Limits { elem: Elem::F16, ..Limits::DEFAULT })] {
        let input = BatchShape { batch: 1, channels: 1, height: side, width: side, masked: false };
        let (graph, _) = record(&Config::vit_base(), limits, input, &Request::default()).unwrap();
        let labels: Vec<_> = graph.steps().iter().map(|step| step.label.as_str()).filter(|label| !label.starts_with("blocks.")).collect();
        assert_eq!(labels, ["patch_embed", "tokens", "norm"]);
        assert_eq!(graph.steps().len(), 12 * 7 + labels.len());
    }
}

/// A program of 32 bits cannot count the bytes of an MLP over the largest image, and no program those of so many images.
#[test]
fn a_pass_whose_bytes_cannot_be_counted_is_an_error() {
    let large = Config { embed_dim: 1024, num_heads: 16, ffn_dim: 4096, ..Config::vit_base() };
    let batch = if usize::BITS == 32 { 1 } else { 1 << 40 };
    for (batch, height) in [(batch, 8192), (1 << (usize::BITS - 14), 64)] {
        let input = BatchShape { batch, channels: 1, height, width: 8192, masked: false };
        let Err(error) = record(&large, Limits::DEFAULT, input, &Request::default()) else { panic!("it is too large") };
        let error = error.to_string();
        assert!(error.contains("take more bytes than a") && error.contains("use a smaller image (`size`)"), "{error}");
    }
}

/// ViT-B at the sizes that matter, on a device of the lowest limits and on a large one: no assignment to whole slots takes
/// less. The MLP's hidden tokens take four times [T, C]. Before them, the stream, attention's result and the new stream are
/// alive at once, and none of them can be where queries, keys and values were, because the hidden tokens follow there.
#[test]
fn the_models_graph_takes_as_little_as_can_be() {
    let large = Limits { max_binding: 2 << 30, max_buffer: 4 << 30, workgroup_memory: 48 << 10, ..Limits::DEFAULT };
    for (side, limits) in [(224, Limits::DEFAULT), (896, Limits::DEFAULT), (2048, Limits::DEFAULT), (2048, large)] {
        let input = BatchShape { batch: 1, channels: 3, height: side, width: side, masked: false };
        let (graph, _) = record(&Config::vit_base(), limits, input, &Request::default()).unwrap();
        let Footprint { slots, lower_bound, live, weights, outputs, .. } = plan(&graph, &limits).unwrap().bytes();
        let unit = ((5 + (side / 16) * (side / 16)) * 768 * 4) as u64; // [T, C]
        println!("{side}: slots {slots}, at least {lower_bound}, alive at once {live}, in [T, C]: {:.2}", slots as f64 / unit as f64);
        assert_eq!(slots, 7 * unit, "{side}: {slots} bytes, at least {lower_bound}");
        assert_eq!((outputs, weights), (unit, 4 * 85_641_984), "x_norm, and every parameter of ViT-B");
    }
}
