//! The engine on a device, real or software, without the model.

mod device;

use meddino::Tensor;
use meddino::error::GpuFailure;
use meddino::gpu::{Context, Executable, GpuWeights, Selection};
use meddino::graph::{Cost, Dispatch, Graph, Kernel, Limits, Operand, Role, TensorId, Tier, plan};

const SCALE: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
struct Params { n: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + 64 * groups.x * id.y;
    if i < params.n { y[i] = FACTOR * x[i]; }
}
";

/// A dispatch of y = factor * x over 64 elements, whose tensors the caller sets.
fn scale_step(label: &str, factor: f32) -> Dispatch {
    let nowhere = Operand { tensor: Graph::new().tensor("", [0], Role::Intermediate), offset: 0, len: 0 };
    let mut params = vec![0; 16];
    params[..4].copy_from_slice(&64_u32.to_le_bytes());
    Dispatch {
        label: label.to_owned(),
        kernel: Kernel { name: "scale", parts: vec![SCALE], constants: vec![("FACTOR", factor.into())] },
        reads: Vec::new(),
        write: nowhere,
        params,
        workgroups: [1; 3],
        cost: Cost::default(),
    }
}

/// Records y = factor * x, with this test's own kernel.
fn scale(graph: &mut Graph, label: &str, x: TensorId, factor: f32, role: Role) -> TensorId {
    let n = graph.info(x).len();
    let y = graph.tensor(label, [n], role);
    let mut step = scale_step(label, factor);
    (step.reads, step.write) = (vec![graph.whole(x)], graph.whole(y));
    step.params[..4].copy_from_slice(&(n as u32).to_le_bytes());
    step.workgroups = [(n as u32).div_ceil(64).min(65_535), 1 + (n as u32).div_ceil(64) / 65_535, 1];
    step.cost = Cost { flops: n as u64, bytes: 8 * n as u64 };
    graph.push(step);
    y
}

#[test]
fn a_chain_of_dispatches_runs_in_order_and_repeatedly() {
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
        let want: Vec<f32> = values.iter().map(|x| 210.0 * x).collect();
        assert_eq!(got.data(), want);
    }
}

/// A prepared graph of x -> 2 x -> 6 x, with x and the result.
fn small(context: &Context) -> (Executable, TensorId, TensorId) {
    let mut graph = Graph::new();
    let x = graph.tensor("x", [100], Role::Input);
    let a = scale(&mut graph, "blocks.0.double", x, 2.0, Role::Intermediate);
    let y = scale(&mut graph, "blocks.1.treble", a, 3.0, Role::Output);
    let planned = plan(&graph, context.limits()).unwrap();
    (Executable::new(context, graph, planned, &GpuWeights::default()).unwrap(), x, y)
}

/// Runs [`small`] and checks its result.
fn works(context: &Context) {
    let (executable, x, y) = small(context);
    executable.write(x, 0, &[7.0; 100]).unwrap();
    executable.run().unwrap();
    assert_eq!(executable.read_all(&[y]).unwrap()[0].data(), [42.0; 100]);
}

#[test]
fn after_an_absurd_allocation_the_next_call_works() {
    let Some(context) = device::context() else { return };
    let mut graph = Graph::new();
    let x = graph.tensor("image", [1 << 40], Role::Input);
    let y = graph.tensor("y", [1 << 40], Role::Output);
    let some = |tensor| Operand { tensor, offset: 0, len: 64 };
    let mut step = scale_step("y", 1.0);
    (step.reads, step.write) = (vec![some(x)], some(y));
    graph.push(step);
    let error = plan(&graph, context.limits()).unwrap_err();
    let refused = error.to_string();
    assert_eq!(device::kind(&error), Some(GpuFailure::TooLarge));
    assert!(refused.contains("image") && refused.contains("4398046511104 bytes") && refused.contains("`size`"), "{refused}");

    // A plan for a device without limits: now the device itself must refuse.
    let boundless = Limits { max_buffer: u64::MAX, ..*context.limits() };
    let planned = plan(&graph, &boundless).unwrap();
    let error = Executable::new(&context, graph, planned, &GpuWeights::default()).unwrap_err();
    let refused = error.to_string();
    assert_eq!(device::kind(&error), Some(GpuFailure::Refused));
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
    assert!(refused.starts_with("gpu: preparing the forward pass: ") && refused.contains("`backend` cpu"), "{refused}");
    works(&context);
}

#[test]
fn a_shader_that_does_not_compile_is_an_error_and_the_next_call_works() {
    let Some(context) = device::context() else { return };
    let mut graph = Graph::new();
    let x = graph.tensor("x", [64], Role::Input);
    let y = graph.tensor("y", [64], Role::Output);
    let mut step = scale_step("y", 1.0);
    step.kernel.constants.clear();
    (step.reads, step.write) = (vec![graph.whole(x)], graph.whole(y));
    graph.push(step);
    for _ in 0..2 {
        let planned = plan(&graph, context.limits()).unwrap();
        let refused = Executable::new(&context, graph.clone(), planned, &GpuWeights::default()).unwrap_err().to_string();
        assert!(refused.contains("FACTOR"), "the second time too, for nothing broken is kept: {refused}");
    }
    works(&context);
}

#[test]
fn a_lost_device_is_an_error_that_says_what_to_do() {
    let Some(context) = device::context() else { return };
    let (executable, x, y) = small(&context);
    context.device().destroy();
    for _ in 0..2 {
        let error =
            executable.write(x, 0, &[1.0; 100]).and_then(|()| executable.run()).and_then(|()| executable.read_all(&[y])).unwrap_err();
        assert_eq!(device::kind(&error), Some(GpuFailure::Lost));
        assert!(error.to_string().contains("was lost") && error.to_string().contains("open it again"), "{error}");
    }
    works(&Context::new(&Selection::Auto).unwrap());
}

#[test]
fn weights_are_uploaded_once_and_named_when_missing() {
    let Some(context) = device::context() else { return };
    // Larger than the uploads that may be in flight at once.
    let large = Tensor::new([5, 4 << 20], (0..5 * (4 << 20)).map(|i| (i % 1000) as f32).collect());
    let weights = GpuWeights::upload(&context, [("large", &large), ("w", &Tensor::new([2], vec![1.5, -2.0]))]).unwrap();
    assert_eq!(weights.bytes(), (5 * (4 << 20) + 2) * 4);
    let prepare = |name: &str, n: usize, factor: f32| {
        let mut graph = Graph::new();
        let w = graph.tensor(name, [n], Role::Weight);
        let y = scale(&mut graph, "y", w, factor, Role::Output);
        let planned = plan(&graph, context.limits()).unwrap();
        Executable::new(&context, graph, planned, &weights).map(|executable| (executable, w, y))
    };
    let (first, w1, y1) = prepare("w", 2, 2.0).unwrap();
    let (second, w2, _) = prepare("w", 2, 4.0).unwrap();
    assert_eq!(first.buffer(w1), second.buffer(w2), "one buffer");
    first.run().unwrap();
    assert_eq!(first.read_all(&[y1]).unwrap()[0].data(), [3.0, -4.0]);
    let (whole, _, y) = prepare("large", 5 * (4 << 20), 1.0).unwrap();
    whole.run().unwrap();
    assert!(whole.read_all(&[y]).unwrap()[0].data() == large.data(), "the same values came back");
    let missing = prepare("v", 2, 1.0).unwrap_err();
    assert!(missing.to_string().contains("v was not uploaded"), "{missing}");
    let wrong = prepare("w", 3, 1.0).unwrap_err();
    assert_eq!([device::kind(&missing), device::kind(&wrong)], [Some(GpuFailure::Misuse); 2]);
    assert!(wrong.to_string().contains("w has 8 bytes on the device and should have 12"), "{wrong}");
}

#[test]
fn a_host_lends_its_device_and_submits_itself() {
    let Some(lent) = device::context() else { return };
    let (device, queue) = (lent.device().clone(), lent.queue().clone());
    let context = Context::from_host(device.clone(), queue.clone()).unwrap();
    // Only the tier and what belongs to it differ: it is the plainest until the host asks for another.
    let tier = if lent.abilities().is_software() { Tier::Direct } else { Tier::Baseline };
    assert_eq!(*context.limits(), Limits { tier, subgroup_size: 0, ..*lent.limits() });
    assert_eq!(context.abilities().f16, lent.abilities().f16);
    let (executable, x, y) = small(&context);
    executable.write(x, 0, &[7.0; 100]).unwrap();
    // The host's encoder, submission and poll, step by step, as a host does to keep its frame rate.
    let reading = {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        executable.encode_steps(&mut encoder, 0..1);
        executable.encode_steps(&mut encoder, 1..2);
        queue.submit([encoder.finish()]);
        executable.read(y).unwrap()
    };
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(pollster::block_on(reading).unwrap(), [42.0; 100]);
}

#[test]
fn a_profile_times_every_dispatch() {
    let Some(context) = device::context() else { return };
    let (executable, x, y) = small(&context);
    executable.write(x, 0, &[7.0; 100]).unwrap();
    let profile = executable.profile().unwrap();
    assert_eq!(executable.read_all(&[y]).unwrap()[0].data(), [42.0; 100], "a profile is a run");
    assert_eq!(profile.cost, Cost { flops: 200, bytes: 1600 });
    assert!(!profile.wall.is_zero());
    let Some(dispatches) = &profile.dispatches else {
        assert!(!context.device().features().contains(wgpu::Features::TIMESTAMP_QUERY));
        return;
    };
    assert_eq!(dispatches.iter().map(|d| d.label.as_str()).collect::<Vec<_>>(), ["blocks.0.double", "blocks.1.treble"]);
    let device_time: std::time::Duration = dispatches.iter().map(|d| d.time).sum();
    assert!(!device_time.is_zero() && device_time <= profile.wall, "{device_time:?} of {:?}", profile.wall);
}

#[test]
fn limits_can_be_narrowed_and_never_widened() {
    let tight = Limits { max_binding: 8 << 20, max_workgroups: 1000, alignment: 256, ..Limits::DEFAULT };
    let Some(context) = device::narrow_context(tight) else { return };
    assert_eq!(*context.limits(), tight);
    works(&context);
    let device_limits = *Context::new(&Selection::Auto).unwrap().limits();
    let wide = Limits {
        max_binding: 1 << 60,
        max_buffer: 1 << 60,
        alignment: 1,
        max_workgroups: u32::MAX,
        max_invocations: u32::MAX,
        workgroup_memory: u32::MAX,
        ..device_limits
    };
    // A context with limits runs none of the tiers that would need a self-test.
    let tier = if device_limits.tier == Tier::Direct { Tier::Direct } else { Tier::Baseline };
    assert_eq!(*Context::with_limits(&Selection::Auto, wide).unwrap().limits(), Limits { tier, subgroup_size: 0, ..device_limits });
}

const STRAY: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
struct Params { beyond: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(2) var<uniform> params: Params;
var<workgroup> shared_values: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32) {
    var own = array<f32, 4>(1.0, 2.0, 3.0, 4.0);
    let dirty = shared_values[i];
    workgroupBarrier();
    shared_values[i] = -5.0;
    workgroupBarrier();
    y[i] = own[params.beyond] + 10.0 * shared_values[params.beyond + i] + 100.0 * dirty;
    y[params.beyond + i] = 9.0 + x[params.beyond + i];
}
";

/// A caller's shader that reads and writes past every end keeps its run-time checks, even on a context whose own
/// shaders have none.
#[test]
fn a_foreign_shader_keeps_its_checks_on_every_context() {
    let Some(context) = device::context() else { return };
    if format!("{:?}", context.info().backend) == "Gl" {
        eprintln!("SKIPPED: wgpu checks no private or workgroup arrays on OpenGL");
        return;
    }
    let model = meddino::vit::model::Model::seeded(0, meddino::vit::config::ModelSize::Micro);
    let gpu = meddino::gpu::Gpu::new(&context, model.config(), &model.weights().unwrap()).unwrap();
    for context in [gpu.context().clone(), context.without_shader_checks(), context] {
        let mut graph = Graph::new();
        let x = graph.tensor("x", [64], Role::Input);
        let y = graph.tensor("y", [3, 64], Role::Output);
        let mut step = scale_step("stray", 1.0);
        step.kernel = Kernel { name: "stray", parts: vec![STRAY], constants: Vec::new() };
        step.params[..4].copy_from_slice(&100_u32.to_le_bytes());
        (step.reads, step.write) = (vec![graph.whole(x)], Operand { tensor: y, offset: 64, len: 64 });
        graph.push(step);
        assert!(!graph.is_trusted(0));
        let planned = plan(&graph, context.limits()).unwrap();
        let executable = Executable::new(&context, graph, planned, &GpuWeights::default()).unwrap();
        executable.write(x, 0, &[0.0; 64]).unwrap();
        for _ in 0..3 {
            executable.write(y, 0, &[-7.0; 192]).unwrap();
            executable.run().unwrap();
            let got = executable.read_all(&[y]).unwrap().remove(0);
            let (before, rest) = got.data().split_at(64);
            let (bound, behind) = rest.split_at(64);
            assert!([before, behind] == [[-7.0; 64]; 2], "what is not bound was written: {before:?} {behind:?}");
            // A read past an array's end gives its last element, a write is dropped. Workgroup memory starts as zeros.
            assert!(bound.iter().all(|v| [4.0 - 50.0, 9.0].contains(v)), "{bound:?}");
        }
    }
}

#[test]
fn a_foreign_shader_may_not_use_features_without_checks() {
    let Some(context) = device::context() else { return };
    let refused = |kernel: Kernel| {
        let mut graph = Graph::new();
        let y = graph.tensor("y", [64], Role::Output);
        let mut step = scale_step("blocks.0.mine", 1.0);
        (step.kernel, step.write) = (kernel, graph.whole(y));
        graph.push(step);
        let planned = plan(&graph, context.limits()).unwrap();
        let error = Executable::new(&context, graph, planned, &GpuWeights::default()).unwrap_err();
        assert_eq!(device::kind(&error), Some(GpuFailure::Misuse));
        error.to_string()
    };
    let text = "enable wgpu_cooperative_matrix;";
    let message = refused(Kernel { name: "mine", parts: vec![text], constants: Vec::new() });
    assert!(
        message.contains("blocks.0.mine") && message.contains("cooperative matrices") && message.contains("push_unchecked"),
        "{message}"
    );
    let message = refused(Kernel { name: "mine", parts: vec![SCALE], constants: vec![("SUBGROUP_SIZE", 3_u32.into())] });
    assert!(message.contains("blocks.0.mine") && message.contains("subgroups of at most 3"), "{message}");
}
