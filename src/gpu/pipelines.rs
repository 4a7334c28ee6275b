//! Kernels compiled for one device, each once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use super::context::Context;
use crate::error::Result;
use crate::graph::Kernel;

/// Pipelines by kernel, and bind group layouts by shape: those that the device did not object to.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    /// Whether kernels that are trusted are compiled without run-time checks.
    unchecked: bool,
    compiled: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
    layouts: Mutex<HashMap<Bindings, wgpu::BindGroupLayout>>,
}

/// A kernel, the shape of its bind group, and whether it is compiled without checks: one text may stand in trusted and in other steps.
type Key = (Kernel, Bindings, bool);

/// The shape of a dispatch's bind group: reads from 0, then the write, then the parameters if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bindings {
    pub reads: usize,
    pub params: bool,
}

impl Pipelines {
    /// Pipelines of which those that are trusted are compiled without run-time checks; see [`Context::without_shader_checks`].
    pub fn unchecked() -> Self {
        Self { unchecked: true, ..Self::default() }
    }

    /// # Errors
    /// As [`Pipelines::pipeline`].
    pub fn layout(&self, context: &Context, bindings: Bindings) -> Result<wgpu::BindGroupLayout> {
        kept(&self.layouts, bindings, || context.checked(PREPARING, || Ok(context.bind_group_layout("meddino", bindings.kinds()))))
    }

    /// The pipeline of a kernel of a step that is `trusted` ([`crate::graph::Graph::is_trusted`]) or not.
    ///
    /// # Errors
    /// If the device refuses the shader, is out of memory or lost; then nothing is kept.
    pub fn pipeline(&self, context: &Context, kernel: &Kernel, bindings: Bindings, trusted: bool) -> Result<wgpu::ComputePipeline> {
        let layout = self.layout(context, bindings)?;
        let unchecked = self.unchecked && trusted;
        let compile = || context.checked(PREPARING, || Ok(compile(context, kernel, &layout, unchecked)));
        kept(&self.compiled, (kernel.clone(), bindings, unchecked), compile)
    }
}

/// What errors open with.
const PREPARING: &str = "preparing the forward pass";

/// The value of `key`; made if it is not there, and kept if that went well.
fn kept<K: Eq + Hash, V: Clone>(map: &Mutex<HashMap<K, V>>, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(match map.entry(key) {
        Entry::Occupied(entry) => entry.get().clone(),
        Entry::Vacant(entry) => entry.insert(make()?).clone(),
    })
}

fn compile(context: &Context, kernel: &Kernel, layout: &wgpu::BindGroupLayout, unchecked: bool) -> wgpu::ComputePipeline {
    let module = context.shader(kernel.name, kernel.source(), unchecked);
    let layout = context.pipeline_layout(kernel.name, layout);
    let options = wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: !unchecked, ..Default::default() };
    context.compute_pipeline(kernel.name, &layout, &module, options)
}

impl Bindings {
    fn kinds(self) -> impl Iterator<Item = wgpu::BindingType> {
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let storage = move |read_only| buffer(wgpu::BufferBindingType::Storage { read_only });
        std::iter::repeat_n(storage(true), self.reads)
            .chain([storage(false)])
            .chain(self.params.then(|| buffer(wgpu::BufferBindingType::Uniform)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::tune::tests::device;
    use crate::gpu::{Executable, GpuWeights};
    use crate::graph::{Elem, Graph, Role, Tier, plan};
    use crate::kernels::Recorder;

    /// The recorder's own step, and a copy of it that a caller pushed: one text, two pipelines.
    #[test]
    fn only_the_recorder_s_own_steps_go_without_checks() {
        let Some(context) = device(Tier::Baseline, Elem::F32) else { return };
        let (context, checked) = (context.without_shader_checks(), context);
        let mut g = Recorder::new(*context.limits());
        let x = g.tensor("x", [8], Role::Input);
        let y = g.gelu("gelu", x).unwrap();
        g.keep(y);
        let own = g.finish();
        let mut copied = Graph::new();
        for info in own.tensors() {
            copied.tensor_of(info.elem, &info.label, info.shape.clone(), info.role);
        }
        copied.push(own.steps()[0].clone());
        let compiled = |context: &Context, graph: &Graph| {
            let planned = plan(graph, context.limits()).unwrap();
            Executable::new(context, graph.clone(), planned, &GpuWeights::default()).unwrap();
            let mut unchecked: Vec<bool> = context.pipelines.compiled.lock().unwrap().keys().map(|(.., unchecked)| *unchecked).collect();
            unchecked.sort_unstable();
            unchecked
        };
        assert_eq!(compiled(&context, &copied), [false]);
        assert_eq!(compiled(&context, &own), [false, true]);
        assert_eq!(compiled(&checked, &own), [false], "where the context keeps its checks, everyone has them");
    }
}
