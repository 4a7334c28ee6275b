//! Compiles kernels for a device.

use super::context::Context;
use super::pipelines::Bindings;
use crate::error::Result;
use crate::graph::{Dispatch, Kernel};

/// The operation that the texts of errors begin with.
const COMPILING: &str = "preparing the forward pass";

/// A step's compiled kernel with the layout of its bind group.
pub(super) struct Compiled {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Context {
    /// Returns a step's kernel, which it compiles unless the context has compiled it before. A kernel that is `trusted`
    /// ([`crate::graph::Graph::is_trusted`]) has no run-time checks if the context allows that.
    ///
    /// # Errors
    /// If the device refuses the shader, is out of memory or lost. A failed kernel is not kept.
    pub(super) async fn compiled(&self, step: &Dispatch, trusted: bool) -> Result<Compiled> {
        let bindings = Bindings::of(step);
        let create_layout = || Ok(self.bind_group_layout("meddino", bindings.kinds()));
        let layout = self.pipelines.layout(bindings, self.checked_async(COMPILING, create_layout)).await?;
        let unchecked = self.pipelines.skips_checks(trusted);
        let compile = || Ok(compile(self, &step.kernel, &layout, unchecked));
        let key = (step.kernel.clone(), bindings, unchecked);
        let pipeline = self.pipelines.pipeline(key, self.checked_async(COMPILING, compile)).await?;
        Ok(Compiled { pipeline, layout })
    }
}

fn compile(context: &Context, kernel: &Kernel, layout: &wgpu::BindGroupLayout, unchecked: bool) -> wgpu::ComputePipeline {
    let text = if context.abilities().software { kernel.source() } else { kernel.unrolled_source() };
    let module = context.shader(kernel.name, text, unchecked);
    let layout = context.pipeline_layout(kernel.name, layout);
    let options = wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: !unchecked, ..Default::default() };
    context.compute_pipeline(kernel.name, &layout, &module, options)
}
