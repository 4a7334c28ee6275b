//! The compiled pipelines of a device; each kernel is compiled once.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::graph::{Dispatch, Kernel};

/// Pipelines by kernel, and bind group layouts by shape. Only objects that the device created without an error are
/// kept.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    compiled: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
    layouts: Mutex<HashMap<Bindings, wgpu::BindGroupLayout>>,
}

/// A kernel, the shape of its bind group, and whether it is compiled without checks. The last is part of the key
/// because trusted and untrusted steps may have the same shader.
pub(super) type Key = (Kernel, Bindings, bool);

/// The shape of a dispatch's bind group: reads from 0, then the write, then the parameters if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bindings {
    pub reads: usize,
    pub params: bool,
}

impl Pipelines {
    /// Drops all of it, so that tests can watch a compilation.
    #[cfg(test)]
    pub fn forget(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the layout for these bindings, which `make` creates if the cache does not hold it.
    ///
    /// # Errors
    /// As `make`; a failed layout is not kept.
    pub async fn layout(
        &self,
        bindings: Bindings,
        make: impl Future<Output = Result<wgpu::BindGroupLayout>>,
    ) -> Result<wgpu::BindGroupLayout> {
        cached(&self.layouts, bindings, make).await
    }

    /// Returns the pipeline of a key, which `compile` creates if the cache does not hold it.
    ///
    /// # Errors
    /// As `compile`; a failed pipeline is not kept.
    pub async fn pipeline(&self, key: Key, compile: impl Future<Output = Result<wgpu::ComputePipeline>>) -> Result<wgpu::ComputePipeline> {
        cached(&self.compiled, key, compile).await
    }
}

/// Returns the cached value of `key`, or makes it and keeps it unless `make` fails. Two tasks that need the value at
/// the same time may both make it; the first one is kept.
async fn cached<K: Eq + Hash, V: Clone>(map: &Mutex<HashMap<K, V>>, key: K, make: impl Future<Output = Result<V>>) -> Result<V> {
    let locked = || map.lock().unwrap_or_else(PoisonError::into_inner);
    let found = locked().get(&key).cloned();
    if let Some(value) = found {
        return Ok(value);
    }
    let value = make.await?;
    Ok(locked().entry(key).or_insert(value).clone())
}

impl Bindings {
    /// Returns the shape of a step's bind group.
    pub fn of(step: &Dispatch) -> Self {
        Self { reads: step.reads.len(), params: !step.params.is_empty() }
    }

    /// Returns the types of the bindings, in order.
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

    /// A step of the recorder, and a copy of that step that a caller pushes: the same shader, but two pipelines.
    #[test]
    fn only_the_recorder_s_own_steps_go_without_checks() {
        let Some(context) = device(Tier::Baseline, Elem::F32) else { return };
        let (context, checked) = (context.without_shader_checks(), context);
        let mut g = Recorder::new(*context.limits());
        let x = g.tensor("x", [8], Role::Input);
        let y = g.gelu("gelu", x).unwrap();
        g.keep(y);
        let recorded = g.finish();
        let mut copied = Graph::new();
        for info in recorded.tensors() {
            copied.tensor_of(info.elem, &info.label, info.shape.clone(), info.role);
        }
        copied.push(recorded.steps()[0].clone());
        let compiled = |context: &Context, graph: &Graph| {
            context.pipelines.forget();
            let planned = plan(graph, context.limits()).unwrap();
            Executable::new(context, graph.clone(), planned, &GpuWeights::default()).unwrap();
            let mut unchecked: Vec<bool> = context.pipelines.compiled.lock().unwrap().keys().map(|(.., unchecked)| *unchecked).collect();
            unchecked.sort_unstable();
            unchecked
        };
        assert_eq!(compiled(&context, &copied), [false]);
        assert_eq!(compiled(&context, &recorded), [true]);
        assert_eq!(compiled(&checked, &recorded), [false], "a context with checks compiles no kernel without them");
    }
}
