//! A graph with every GPU object it needs. The objects are created once; the graph can then run many times.

use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::compile::Compiled;
use super::context::Context;
use super::pipelines::Bindings;
use super::readback::{Idle, Readback};
use super::spares::Spares;
use super::stamps::{Clocked, Stamps};
use super::weights::{GpuWeights, decode, encoded};
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{BufferPlace, Constant, Dispatch, Elem, Graph, Operand, Plan, TensorId};
use crate::tensor::Tensor;

/// The most declared FLOPs in one submission of [`Executable::run`]. A slow GPU (0.2 TFLOP/s) finishes them in about a
/// second, before its driver takes the GPU for hung.
const FLOPS_PER_SUBMISSION: u64 = 200_000_000_000;

/// The number of dispatches of [`crate::graph::Limits::max_work`] each that fit one submission. Together they take well
/// below a second.
const DISPATCHES_PER_SUBMISSION: u64 = 4;

/// The name of the constant in shaders that only work with subgroups of at most this size.
const SUBGROUP_SIZE: &str = "SUBGROUP_SIZE";

/// A planned graph with its pipelines, buffers and bind groups on a device.
#[derive(Debug)]
pub struct Executable {
    context: Context,
    graph: Graph,
    plan: Plan,
    /// The buffer of each tensor; `None` if no dispatch touches the tensor.
    buffers: Vec<Option<wgpu::Buffer>>,
    /// The idle staging buffers of each tensor.
    idle: Vec<Idle>,
    steps: Vec<Step>,
}

/// How long a GPU works before it is timed. An idle GPU runs at a low clock, and takes a part of this to leave it.
pub(super) const WARM: Duration = Duration::from_millis(200);

/// One dispatch, ready to be encoded.
#[derive(Debug)]
struct Step {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Executable {
    /// Creates every pipeline, buffer and bind group of a graph.
    ///
    /// # Errors
    /// If a weight is not among `weights` or has another size, or if the device lacks memory, refuses a shader or is
    /// lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(context: &Context, graph: Graph, plan: Plan, weights: &GpuWeights) -> Result<Self> {
        block_on(Self::new_async(context, graph, plan, weights))
    }

    /// [`Executable::new`] as a future.
    ///
    /// # Errors
    /// If a weight is not among `weights` or has another size, or if the device lacks memory, refuses a shader or is
    /// lost.
    pub async fn new_async(context: &Context, graph: Graph, plan: Plan, weights: &GpuWeights) -> Result<Self> {
        for (at, step) in graph.steps().iter().enumerate() {
            check_subgroups(context, step)?;
            check_matrices(step, graph.is_trusted(at))?;
        }
        let buffers = context.checked_async(PREPARING, || buffers(context, &graph, &plan, weights)).await?;
        let compiled = context.compiled(&graph).await?;
        let steps = context.checked_async(PREPARING, || Ok(steps(context, &graph, &buffers, compiled))).await?;
        let idle = buffers.iter().map(|_| Idle::default()).collect();
        Ok(Self { context: context.clone(), graph, plan, buffers, idle, steps })
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the plan, which includes the bytes of device memory.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the device that holds the objects.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the buffer of a tensor. Callers write inputs (`COPY_DST`) and read outputs (`COPY_SRC`, `STORAGE`). The
    /// elements, of type [`crate::graph::TensorInfo::elem`], are row-major from the buffer's start. `None` for a tensor
    /// that no dispatch touches. Tensors in the same slot share a buffer, which holds the values of the one that was
    /// written last.
    pub fn buffer(&self, id: TensorId) -> Option<&wgpu::Buffer> {
        self.buffers[id.index()].as_ref()
    }

    /// Records every dispatch into the caller's encoder, as one compute pass. Nothing is allocated, submitted or
    /// polled.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        self.encode_steps(encoder, 0..self.steps.len());
    }

    /// Records the dispatches with these indices in [`Graph::steps`]. A host that must keep its frame rate spreads them
    /// over several frames.
    pub fn encode_steps(&self, encoder: &mut wgpu::CommandEncoder, steps: Range<usize>) {
        self.encode_pass(encoder, steps, Some("meddino"), None);
    }

    /// Records the dispatches with these indices as one compute pass, between timestamps if `timestamp_writes` is
    /// given.
    pub(super) fn encode_pass(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: Range<usize>,
        label: Option<&str>,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes });
        for step in &self.steps[steps] {
            step.encode(&mut pass);
        }
    }

    /// Writes values into an input or an output, from the element `at` on.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    ///
    /// # Panics
    /// If the values do not fit, which is a programmer's mistake.
    pub fn write(&self, id: TensorId, at: usize, values: &[f32]) -> Result<()> {
        let info = self.graph.info(id);
        assert!(at + values.len() <= info.len(), "{}: {} values at {at} of {}", info.label, values.len(), info.len());
        let Some(buffer) = self.buffer(id) else { return Ok(()) };
        self.context.checked(&format!("writing {}", info.label), || {
            self.context.queue().write_buffer(buffer, info.byte_at(at), &encoded(values, info.elem));
            Ok(())
        })
    }

    /// Fills an input or an output with zeros.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn zero(&self, id: TensorId) -> Result<()> {
        let Some(buffer) = self.buffer(id) else { return Ok(()) };
        self.context.checked(&format!("clearing {}", self.graph.info(id).label), || {
            let mut encoder = self.context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("meddino") });
            encoder.clear_buffer(buffer, 0, None);
            self.context.submit([encoder.finish()]);
            Ok(())
        })
    }

    /// Encodes and submits the whole graph, and does not wait. A long graph is split into several submissions.
    ///
    /// # Errors
    /// If the device refuses the work or is lost.
    pub fn run(&self) -> Result<()> {
        self.submit(None)
    }

    /// Runs the graph, at least once, until a GPU that idled has reached its working clock. An NVIDIA H200 idles at a
    /// sixth of it.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub(super) async fn warm(&self, doing: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            self.run()?;
            self.context.done(doing).await?;
            if started.elapsed() >= WARM {
                return Ok(());
            }
        }
    }

    /// Runs the graph as [`Executable::run`] does, and takes timestamps at the begin of the first dispatch and at the
    /// end of the last. `None` if the device has no timestamps.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub(super) async fn run_clocked(&self) -> Result<Option<Clocked>> {
        let stamps = Stamps::new(&self.context, 1).await?;
        self.submit(stamps.as_ref())?;
        stamps.map(|stamps| stamps.begin(&self.context)).transpose()
    }

    fn submit(&self, stamps: Option<&Stamps>) -> Result<()> {
        self.context.checked("running the forward pass", || {
            let submissions = self.submissions();
            let last = submissions.len() - 1;
            for (at, steps) in submissions.into_iter().enumerate() {
                let mut encoder = self.context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("meddino") });
                let writes = stamps.and_then(|stamps| stamps.writes(0, at == 0, at == last));
                self.encode_pass(&mut encoder, steps, Some("meddino"), writes);
                self.context.submit([encoder.finish()]);
            }
            Ok(())
        })
    }

    /// Splits the steps into submissions of at most [`FLOPS_PER_SUBMISSION`], and of at most
    /// [`DISPATCHES_PER_SUBMISSION`] times [`crate::graph::Limits::max_work`] if that was measured.
    fn submissions(&self) -> Vec<Range<usize>> {
        let max_work = self
            .context
            .limits()
            .max_work
            .map_or(FLOPS_PER_SUBMISSION, |work| FLOPS_PER_SUBMISSION.min(work.saturating_mul(DISPATCHES_PER_SUBMISSION)));
        let (mut runs, mut start, mut work) = (Vec::new(), 0, 0);
        for (at, step) in self.graph.steps().iter().enumerate() {
            if at > start && step.cost.work().saturating_add(work) > max_work {
                runs.push(start..at);
                (start, work) = (at, 0);
            }
            work = step.cost.work().saturating_add(work);
        }
        runs.push(start..self.graph.steps().len());
        runs
    }

    /// Begins to copy an output to the host, without blocking.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    ///
    /// # Panics
    /// If no dispatch touches the tensor, which is a programmer's mistake.
    pub fn read(&self, id: TensorId) -> Result<Readback> {
        let buffer = self.buffer(id).unwrap_or_else(|| panic!("{} is never written", self.graph.info(id).label));
        Readback::begin(&self.context, buffer, &self.idle[id.index()])
    }

    /// Copies outputs to the host; submits all copies, then blocks until all are finished.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_all(&self, ids: &[TensorId]) -> Result<Vec<Tensor>> {
        block_on(self.read_all_async(ids))
    }

    /// [`Executable::read_all`] as a future.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub async fn read_all_async(&self, ids: &[TensorId]) -> Result<Vec<Tensor>> {
        let arriving: Vec<Arriving> = ids.iter().map(|&id| self.begin(id)).collect::<Result<_>>()?;
        let mut tensors = Vec::with_capacity(arriving.len());
        for output in arriving {
            tensors.push(output.tensor(&Spares::default()).await?);
        }
        Ok(tensors)
    }

    /// Begins to copy an output to the host, as [`Executable::read`] does, and keeps the shape and the element type.
    pub(super) fn begin(&self, id: TensorId) -> Result<Arriving> {
        let info = self.graph.info(id);
        Ok(Arriving { readback: self.read(id)?, shape: info.shape.clone(), elem: info.elem })
    }
}

/// An output on its way to the host. The copy is already submitted, so later runs of the executable do not change its
/// values.
#[derive(Debug)]
pub(super) struct Arriving {
    readback: Readback,
    shape: Vec<usize>,
    elem: Elem,
}

impl Arriving {
    /// Waits for the copy and returns the tensor, in memory of `spares` if there is some.
    pub async fn tensor(self, spares: &Spares) -> Result<Tensor> {
        let len = self.shape.iter().product();
        let mut values = spares.take(len);
        self.readback.read(|bytes| decode(bytes, self.elem, &mut values)).await?;
        Ok(Tensor::new(self.shape, values))
    }
}

/// The operation that the texts of errors begin with.
const PREPARING: &str = "preparing the forward pass";

impl Step {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Checks that the device's subgroups are no larger than a shader was recorded for. Of larger ones a workgroup would have
/// too few, and part of the work would not be done.
fn check_subgroups(context: &Context, step: &Dispatch) -> Result<()> {
    let most_size = |&(name, value): &(&str, Constant)| match value {
        Constant::U32(size) if name == SUBGROUP_SIZE => Some(size),
        _ => None,
    };
    match step.kernel.constants.iter().find_map(most_size) {
        Some(size) if context.abilities().subgroups.is_none_or(|most| most > size) => Err(Error::gpu(
            GpuFailure::Misuse,
            format!(
                "{}: it was recorded for subgroups of at most {size} invocations, and {} may have larger ones or none; record it with the limits of this device",
                step.label,
                context.info().name
            ),
        )),
        _ => Ok(()),
    }
}

/// Refuses cooperative matrices in a step that is not `trusted`, because naga has no run-time checks for them.
fn check_matrices(step: &Dispatch, trusted: bool) -> Result<()> {
    if trusted || !step.kernel.source().contains("cooperative_matrix") {
        return Ok(());
    }
    let problem = "its shader uses cooperative matrices, whose bounds are not checked at run time; push it with Graph::push_unchecked, or use no cooperative matrices";
    Err(Error::gpu(GpuFailure::Misuse, format!("{}: {problem}", step.label)))
}

/// Creates a buffer for every tensor that a dispatch touches; tensors in the same slot share a buffer.
fn buffers(context: &Context, graph: &Graph, plan: &Plan, weights: &GpuWeights) -> Result<Vec<Option<wgpu::Buffer>>> {
    let buffer = |label: &str, size, usage| context.buffer(label, size, wgpu::BufferUsages::STORAGE | usage);
    let slot = |(i, &size): (usize, &u64)| buffer(&format!("slot {i}"), size, wgpu::BufferUsages::empty());
    let slots: Vec<wgpu::Buffer> = plan.slots().iter().enumerate().map(slot).collect();
    let place = |id| {
        let info = graph.info(id);
        Ok(match plan.place(id) {
            BufferPlace::Slot(slot) => Some(slots[slot].clone()),
            BufferPlace::Nowhere => None,
            BufferPlace::Own => Some(buffer(&info.label, info.bytes(), wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC)),
            BufferPlace::Weight => match weights.get(&info.label) {
                Some(buffer) if buffer.size() == info.bytes() => Some(buffer.clone()),
                Some(buffer) => {
                    let (label, bytes, size) = (&info.label, info.bytes(), buffer.size());
                    return Err(Error::gpu(
                        GpuFailure::Misuse,
                        format!("{label} has {size} bytes on the device and should have {bytes}; upload this model's weights"),
                    ));
                }
                None => {
                    return Err(Error::gpu(
                        GpuFailure::Misuse,
                        format!("{} was not uploaded; upload every weight of the model", info.label),
                    ));
                }
            },
        })
    };
    graph.ids().map(place).collect()
}

/// Creates the bind groups of the compiled steps, and one uniform buffer for the parameters of all dispatches.
fn steps(context: &Context, graph: &Graph, buffers: &[Option<wgpu::Buffer>], compiled: Vec<Compiled>) -> Vec<Step> {
    let alignment = context.device().limits().min_uniform_buffer_offset_alignment as usize;
    let mut uniforms = Vec::new();
    let mut offsets = Vec::new();
    for step in graph.steps() {
        uniforms.resize(uniforms.len().next_multiple_of(alignment), 0);
        offsets.push(uniforms.len() as u64);
        uniforms.extend_from_slice(&step.params);
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let params = context.buffer("params", (uniforms.len() as u64).max(16), usage);
    context.queue().write_buffer(&params, 0, &uniforms);

    let bound =
        |buffer, offset, bytes| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(bytes) });
    let view = |v: &Operand| {
        let buffer = buffers[v.tensor.index()].as_ref().expect("every tensor that a dispatch touches has a buffer");
        let info = graph.info(v.tensor);
        bound(buffer, info.byte_at(v.offset), info.bytes_of(v.len))
    };
    let step = |((step, offset), Compiled { pipeline, layout }): ((&Dispatch, u64), Compiled)| {
        let uniform = Bindings::of(step).params.then(|| bound(&params, offset, step.params.len() as u64));
        let resources = step.reads.iter().chain([&step.write]).map(view).chain(uniform);
        Step { pipeline, bind_group: context.bind_group(&step.label, &layout, resources), workgroups: step.workgroups }
    };
    graph.steps().iter().zip(offsets).zip(compiled).map(step).collect()
}
