//! Compiles kernels for a device.

#[cfg(not(target_arch = "wasm32"))]
use std::collections::HashSet;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use super::pipelines::{Bindings, Key};
use crate::error::Result;
use crate::graph::{Graph, Kernel};
#[cfg(not(target_arch = "wasm32"))]
use crate::parallel;

/// The operation that the texts of errors begin with.
const COMPILING: &str = "preparing the forward pass";

/// A step's compiled kernel with the layout of its bind group.
pub(super) struct Compiled {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Context {
    /// Returns the kernel of each step of `graph`. Kernels that the context has not compiled before are compiled side by
    /// side, because drivers take long for each. A kernel whose step is trusted ([`Graph::is_trusted`]) has no
    /// run-time checks if the context allows that.
    ///
    /// # Errors
    /// If the device refuses a shader, is out of memory or lost. A failed kernel is not kept.
    pub(super) async fn compiled(&self, graph: &Graph) -> Result<Vec<Compiled>> {
        let keys: Vec<Key> =
            (0..).zip(graph.steps()).map(|(at, step)| self.key(&step.kernel, Bindings::of(step), graph.is_trusted(at))).collect();
        let mut layouts = Vec::with_capacity(keys.len());
        for (_, bindings, _) in &keys {
            layouts.push(self.layout(*bindings).await?);
        }
        // A browser compiles in a process of its own.
        #[cfg(not(target_arch = "wasm32"))]
        {
            let mut seen = HashSet::new();
            let first: Vec<_> = keys.iter().zip(&layouts).filter(|(key, _)| seen.insert(*key)).collect();
            let compile = |at: usize| block_on(self.pipeline(first[at].0, first[at].1)).map(drop);
            parallel::map(first.len(), compile).into_iter().collect::<Result<()>>()?;
        }
        let mut compiled = Vec::with_capacity(keys.len());
        for (key, layout) in keys.iter().zip(layouts) {
            compiled.push(Compiled { pipeline: self.pipeline(key, &layout).await?, layout });
        }
        Ok(compiled)
    }

    fn key(&self, kernel: &Kernel, bindings: Bindings, trusted: bool) -> Key {
        (kernel.clone(), bindings, trusted && !self.checks_shaders())
    }

    async fn layout(&self, bindings: Bindings) -> Result<wgpu::BindGroupLayout> {
        let create = || Ok(self.bind_group_layout("meddino", bindings.kinds()));
        self.pipelines.layout(bindings, self.checked_async(COMPILING, create)).await
    }

    async fn pipeline(&self, key: &Key, layout: &wgpu::BindGroupLayout) -> Result<wgpu::ComputePipeline> {
        let (kernel, _, unchecked) = key;
        let compile = || Ok(compile(self, kernel, layout, *unchecked));
        self.pipelines.pipeline(key.clone(), self.checked_async(COMPILING, compile)).await
    }
}

fn compile(context: &Context, kernel: &Kernel, layout: &wgpu::BindGroupLayout, unchecked: bool) -> wgpu::ComputePipeline {
    // Software GPUs compile long texts slowly. DX12's compilers were tried with the text that cards get.
    let is_short = context.abilities().is_software() && context.info().backend != wgpu::Backend::Dx12;
    let text = if is_short { kernel.source() } else { kernel.unrolled_source() };
    let module = context.shader(kernel.name, text, unchecked);
    let layout = context.pipeline_layout(kernel.name, layout);
    let options = wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: !unchecked, ..Default::default() };
    context.compute_pipeline(kernel.name, &layout, &module, options)
}
