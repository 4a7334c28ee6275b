//! Kernels compiled for one device, each once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::graph::Kernel;

/// Pipelines by kernel, and bind group layouts by shape. Its errors are those of the scope it is called in.
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
    /// Pipelines of which those that are trusted are compiled without run-time checks; see [`super::Context::without_shader_checks`].
    pub fn unchecked() -> Self {
        Self { unchecked: true, ..Self::default() }
    }

    pub fn layout(&self, device: &wgpu::Device, bindings: Bindings) -> wgpu::BindGroupLayout {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        layouts.entry(bindings).or_insert_with(|| bindings.layout(device)).clone()
    }

    /// The pipeline of a kernel of a step that is `trusted` ([`crate::graph::Graph::is_trusted`]) or not.
    pub fn pipeline(&self, device: &wgpu::Device, kernel: &Kernel, bindings: Bindings, trusted: bool) -> wgpu::ComputePipeline {
        let layout = self.layout(device, bindings);
        let unchecked = self.unchecked && trusted;
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.entry((kernel.clone(), bindings, unchecked)).or_insert_with(|| compile(device, kernel, &layout, unchecked)).clone()
    }

    /// Forgets everything: what was made in a scope that met an error may be invalid.
    pub fn clear(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn compile(device: &wgpu::Device, kernel: &Kernel, layout: &wgpu::BindGroupLayout, unchecked: bool) -> wgpu::ComputePipeline {
    let source = wgpu::ShaderSource::Wgsl(kernel.source().into());
    let module = module(device, wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source }, unchecked);
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(kernel.name),
        bind_group_layouts: &[Some(layout)],
        ..Default::default()
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.name),
        layout: Some(&layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: !unchecked, ..Default::default() },
        cache: None,
    })
}

#[expect(unsafe_code, reason = "run-time checks are left out only of shaders that somebody vouched for")]
fn module(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>, unchecked: bool) -> wgpu::ShaderModule {
    if unchecked {
        // SAFETY: the step was pushed by `Graph::push_unchecked`, which demands of its caller that the shader needs no checks with the step's views,
        // parameters and grid; a graph's steps do not change after that, and `Executable::new` binds those views and runs that grid.
        unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    } else {
        device.create_shader_module(descriptor)
    }
}

impl Bindings {
    fn layout(self, device: &wgpu::Device) -> wgpu::BindGroupLayout {
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let kinds = std::iter::repeat_n(storage(true), self.reads)
            .chain([storage(false)])
            .chain(self.params.then_some(wgpu::BufferBindingType::Uniform));
        let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let entries: Vec<_> = (0..).zip(kinds).map(entry).collect();
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("meddino"), entries: &entries })
    }
}
