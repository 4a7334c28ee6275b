//! What was compiled for one device, each kernel once.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::graph::{Dispatch, Kernel};

/// Pipelines by kernel, and bind group layouts by shape: those that the device did not object to.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    /// Whether kernels that are trusted are compiled without run-time checks.
    unchecked: bool,
    compiled: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
    layouts: Mutex<HashMap<Bindings, wgpu::BindGroupLayout>>,
}

/// A kernel, the shape of its bind group, and whether it is compiled without checks: one text may stand in trusted and in other steps.
pub(super) type Key = (Kernel, Bindings, bool);

/// The shape of a dispatch's bind group: reads from 0, then the write, then the parameters if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bindings {
    pub reads: usize,
    pub params: bool,
}

impl Pipelines {
    /// Pipelines of which those that are trusted are compiled without run-time checks
    /// ([`Context::without_shader_checks`](super::Context::without_shader_checks)).
    pub fn unchecked() -> Self {
        Self { unchecked: true, ..Self::default() }
    }

    /// Whether a kernel of a step that is `trusted` or not is compiled without run-time checks.
    pub fn leaves_out_checks(&self, trusted: bool) -> bool {
        self.unchecked && trusted
    }

    /// The layout for these bindings; it comes from `make` if it is not there.
    ///
    /// # Errors
    /// Whatever `make` says; then nothing is kept.
    pub async fn layout(
        &self,
        bindings: Bindings,
        make: impl Future<Output = Result<wgpu::BindGroupLayout>>,
    ) -> Result<wgpu::BindGroupLayout> {
        kept(&self.layouts, bindings, make).await
    }

    /// The pipeline of a kernel with these bindings; it comes from `compile` if it is not there.
    ///
    /// # Errors
    /// Whatever `compile` says; then nothing is kept.
    pub async fn pipeline(&self, key: Key, compile: impl Future<Output = Result<wgpu::ComputePipeline>>) -> Result<wgpu::ComputePipeline> {
        kept(&self.compiled, key, compile).await
    }
}

/// The value of `key`; it comes from `make` if it is not there, and is kept if that went well. Two that ask for it at once may both make it,
/// and the first is kept.
async fn kept<K: Eq + Hash, V: Clone>(map: &Mutex<HashMap<K, V>>, key: K, make: impl Future<Output = Result<V>>) -> Result<V> {
    let locked = || map.lock().unwrap_or_else(PoisonError::into_inner);
    let found = locked().get(&key).cloned();
    if let Some(value) = found {
        return Ok(value);
    }
    let value = make.await?;
    Ok(locked().entry(key).or_insert(value).clone())
}

impl Bindings {
    /// What a step binds.
    pub fn of(step: &Dispatch) -> Self {
        Self { reads: step.reads.len(), params: !step.params.is_empty() }
    }

    /// What is bound, in order.
    pub fn kinds(self) -> impl Iterator<Item = wgpu::BindingType> {
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let storage = move |read_only| buffer(wgpu::BufferBindingType::Storage { read_only });
        std::iter::repeat_n(storage(true), self.reads)
            .chain([storage(false)])
            .chain(self.params.then(|| buffer(wgpu::BufferBindingType::Uniform)))
    }
}

#[cfg(test)]
mod tests {
    use crate::gpu::tune::tests::device;
    use crate::gpu::{Context, Executable, GpuWeights};
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
