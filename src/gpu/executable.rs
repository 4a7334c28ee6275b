//! A graph with every GPU object it needs: made once, encoded often.

use std::ops::Range;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::compile::Compiled;
use super::context::Context;
use super::pipelines::Bindings;
use super::readback::Readback;
use super::stamps::{Clocked, Stamps};
use super::weights::{GpuWeights, decoded, encoded};
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{Constant, Dispatch, Elem, Graph, Place, Plan, TensorId, View};
use crate::tensor::Tensor;

/// Most declared FLOPs in one submission of [`Executable::run`]: a slow GPU (0.2 TFLOP/s) does it within the second or so after which a
/// driver may take it for hung.
const FLOPS_PER_SUBMISSION: u64 = 200_000_000_000;

/// Dispatches as long as [`crate::graph::Limits::max_work`] lets them be, in one submission: together still well within a second.
const DISPATCHES_PER_SUBMISSION: u64 = 4;

/// The constant by which a shader says that it counts on subgroups of one size.
const SUBGROUP_SIZE: &str = "SUBGROUP_SIZE";

/// A planned graph on a device.
#[derive(Debug)]
pub struct Executable {
    context: Context,
    graph: Graph,
    plan: Plan,
    /// By tensor; `None` where no dispatch touches it.
    buffers: Vec<Option<wgpu::Buffer>>,
    steps: Vec<Step>,
}

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
    /// If a weight is not among `weights` or has another size, or if the device lacks memory, refuses a shader or is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(context: &Context, graph: Graph, plan: Plan, weights: &GpuWeights) -> Result<Self> {
        block_on(Self::new_async(context, graph, plan, weights))
    }

    /// [`Executable::new`] as a future.
    ///
    /// # Errors
    /// If a weight is not among `weights` or has another size, or if the device lacks memory, refuses a shader or is lost.
    pub async fn new_async(context: &Context, graph: Graph, plan: Plan, weights: &GpuWeights) -> Result<Self> {
        for (at, step) in graph.steps().iter().enumerate() {
            check_subgroups(context, step)?;
            check_matrices(step, graph.is_trusted(at))?;
        }
        let buffers = context.checked_async(PREPARING, || buffers(context, &graph, &plan, weights)).await?;
        let mut compiled = Vec::with_capacity(graph.steps().len());
        for (at, step) in graph.steps().iter().enumerate() {
            compiled.push(context.compiled(step, graph.is_trusted(at)).await?);
        }
        let steps = context.checked_async(PREPARING, || Ok(steps(context, &graph, &buffers, compiled))).await?;
        Ok(Self { context: context.clone(), graph, plan, buffers, steps })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The plan, with the bytes it takes.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The device it lives on.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The buffer of an input (to be written: `COPY_DST`) or an output (to be read: `COPY_SRC`, `STORAGE`): elements
    /// (of [`crate::graph::TensorInfo::elem`]) row-major from its start. `None` for a tensor that no dispatch touches; a slot's buffer holds whatever tensor came last.
    pub fn buffer(&self, id: TensorId) -> Option<&wgpu::Buffer> {
        self.buffers[id.index()].as_ref()
    }

    /// Records every dispatch into the caller's encoder, as one compute pass. Nothing is allocated, submitted or polled.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        self.encode_steps(encoder, 0..self.steps.len());
    }

    /// Records some of the dispatches, by their place in [`Graph::steps`]: a host that must keep its frame rate spreads them over frames.
    pub fn encode_steps(&self, encoder: &mut wgpu::CommandEncoder, steps: Range<usize>) {
        self.encode_pass(encoder, steps, Some("meddino"), None);
    }

    /// Records some of the dispatches as one compute pass, between timestamps if any are to be written.
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

    /// Writes values into an input (or an output), from its start or from the element `at`.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    ///
    /// # Panics
    /// If the values do not fit: a programmer's mistake.
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

    /// Encodes and submits the whole graph, in several submissions where it is long. It does not wait.
    ///
    /// # Errors
    /// If the device refuses the work or is lost.
    pub fn run(&self) -> Result<()> {
        self.submit(None)
    }

    /// The same, with a look at the device's clock when the first dispatch begins and when the last one ends, where it has timestamps.
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

    /// The steps in runs of no more than [`FLOPS_PER_SUBMISSION`], or than what the device is known to do in the time of a few dispatches.
    fn submissions(&self) -> Vec<Range<usize>> {
        let most = self
            .context
            .limits()
            .max_work
            .map_or(FLOPS_PER_SUBMISSION, |most| FLOPS_PER_SUBMISSION.min(most.saturating_mul(DISPATCHES_PER_SUBMISSION)));
        let (mut runs, mut start, mut work) = (Vec::new(), 0, 0);
        for (at, step) in self.graph.steps().iter().enumerate() {
            if at > start && step.cost.work().saturating_add(work) > most {
                runs.push(start..at);
                (start, work) = (at, 0);
            }
            work = step.cost.work().saturating_add(work);
        }
        runs.push(start..self.graph.steps().len());
        runs
    }

    /// Begins to read an output back, without blocking.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    ///
    /// # Panics
    /// If no dispatch touches the tensor: a programmer's mistake.
    pub fn read(&self, id: TensorId) -> Result<Readback> {
        let buffer = self.buffer(id).unwrap_or_else(|| panic!("{} is never written", self.graph.info(id).label));
        Readback::begin(&self.context, buffer)
    }

    /// Reads outputs back; blocks once for all of them.
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
        let begun: Vec<Arriving> = ids.iter().map(|&id| self.begin(id)).collect::<Result<_>>()?;
        let mut tensors = Vec::with_capacity(begun.len());
        for arriving in begun {
            tensors.push(arriving.tensor().await?);
        }
        Ok(tensors)
    }

    /// [`Executable::read`], which knows what the values will be.
    pub(super) fn begin(&self, id: TensorId) -> Result<Arriving> {
        let info = self.graph.info(id);
        Ok(Arriving { readback: self.read(id)?, shape: info.shape.clone(), elem: info.elem })
    }
}

/// An output on its way to the host. What its executable does after the copy was submitted changes it no more.
#[derive(Debug)]
pub(super) struct Arriving {
    readback: Readback,
    shape: Vec<usize>,
    elem: Elem,
}

impl Arriving {
    /// The tensor, once it is there.
    pub async fn tensor(self) -> Result<Tensor> {
        let bytes = self.readback.bytes().await?;
        let len = self.shape.iter().product();
        Ok(Tensor::new(self.shape, decoded(&bytes, self.elem, len)))
    }
}

/// What errors open with.
const PREPARING: &str = "preparing the forward pass";

impl Step {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Shaders that count on subgroups of one size share their workgroup memory out by it: on a device with others they would leave it.
fn check_subgroups(context: &Context, step: &Dispatch) -> Result<()> {
    let counted_on = |&(name, value): &(&str, Constant)| match value {
        Constant::U32(size) if name == SUBGROUP_SIZE => Some(size),
        _ => None,
    };
    match step.kernel.constants.iter().find_map(counted_on) {
        Some(size) if context.abilities().subgroup_size != Some(size) => Err(Error::gpu(
            GpuFailure::Misuse,
            format!(
                "{}: it was recorded for subgroups of {size} invocations, and {} has others; record it with the limits of this device",
                step.label,
                context.info().name
            ),
        )),
        _ => Ok(()),
    }
}

/// naga has no run-time checks for cooperative matrices, so that only shaders that need none may use them.
fn check_matrices(step: &Dispatch, trusted: bool) -> Result<()> {
    if trusted || !step.kernel.source().contains("cooperative_matrix") {
        return Ok(());
    }
    let problem =
        "its shader uses cooperative matrices, whose bounds nothing checks; push it with Graph::push_unchecked, or do without them";
    Err(Error::gpu(GpuFailure::Misuse, format!("{}: {problem}", step.label)))
}

/// A buffer for every tensor that is touched; tensors of one slot share its buffer.
fn buffers(context: &Context, graph: &Graph, plan: &Plan, weights: &GpuWeights) -> Result<Vec<Option<wgpu::Buffer>>> {
    let buffer = |label: &str, size, usage| context.buffer(label, size, wgpu::BufferUsages::STORAGE | usage);
    let slot = |(i, &size): (usize, &u64)| buffer(&format!("slot {i}"), size, wgpu::BufferUsages::empty());
    let slots: Vec<wgpu::Buffer> = plan.slots().iter().enumerate().map(slot).collect();
    let place = |id| {
        let info = graph.info(id);
        Ok(match plan.place(id) {
            Place::Slot(slot) => Some(slots[slot].clone()),
            Place::Nowhere => None,
            Place::Own => Some(buffer(&info.label, info.bytes(), wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC)),
            Place::Weight => match weights.get(&info.label) {
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

/// Bind groups for what is compiled, and the one uniform buffer that holds every dispatch's parameters.
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
    let view = |v: &View| {
        let buffer = buffers[v.tensor.index()].as_ref().expect("what a dispatch touches has a buffer");
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
