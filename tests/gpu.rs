//! The engine on a real (or software) device.

mod device;

use meddino::gpu::{Executable, GpuWeights};
use meddino::graph::{Cost, Dispatch, Graph, Kernel, Role, TensorId, plan};

const SCALE: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
struct Params { n: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x < params.n { y[id.x] = FACTOR * x[id.x]; }
}
";

/// y = factor * x, on a graph of its own kernel: the engine without the model.
fn scale(graph: &mut Graph, label: &str, x: TensorId, factor: f32, role: Role) -> TensorId {
    let n = graph.info(x).len();
    let y = graph.tensor(label, [n], role);
    let mut params = vec![0; 16];
    params[..4].copy_from_slice(&(n as u32).to_le_bytes());
    graph.push(Dispatch {
        label: label.to_owned(),
        kernel: Kernel { name: "scale", parts: vec![SCALE], constants: vec![("FACTOR", factor.into())] },
        reads: vec![graph.view(x)],
        write: graph.view(y),
        params,
        workgroups: [(n as u32).div_ceil(64), 1, 1],
        cost: Cost { flops: n as u64, bytes: 8 * n as u64 },
    });
    y
}

#[test]
fn a_chain_of_dispatches_runs_in_order_and_twice() {
    let Some(context) = device::context() else { return };
    let mut graph = Graph::new();
    let x = graph.tensor("x", [1000], Role::Input);
    let a = scale(&mut graph, "a", x, 2.0, Role::Intermediate);
    let b = scale(&mut graph, "b", a, 3.0, Role::Intermediate);
    let c = scale(&mut graph, "c", b, 5.0, Role::Intermediate);
    let y = scale(&mut graph, "y", c, 7.0, Role::Output);
    let planned = plan(&graph, context.limits()).unwrap();
    assert_eq!(planned.slots().len(), 2, "a and c share a slot");
    let executable = Executable::new(&context, graph, planned, &GpuWeights::default()).unwrap();
    for round in 0..2 {
        let values: Vec<f32> = (0..1000).map(|i| (i + round) as f32).collect();
        executable.write(x, 0, &values).unwrap();
        executable.run().unwrap();
        let got = executable.read_all(&[y]).unwrap().remove(0);
        assert!(got.data().iter().zip(&values).all(|(got, x)| *got == 210.0 * x), "{:?}", &got.data()[..4]);
    }
}
