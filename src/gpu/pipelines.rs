//! Kernels compiled for one device, each once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::graph::Kernel;

/// Pipelines by kernel, and bind group layouts by shape. Its errors are those of the scope it is called in.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    unchecked: bool,
    compiled: Mutex<HashMap<(Kernel, Bindings), wgpu::ComputePipeline>>,
    layouts: Mutex<HashMap<Bindings, wgpu::BindGroupLayout>>,
}

/// The shape of a dispatch's bind group: reads from 0, then the write, then the parameters if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bindings {
    pub reads: usize,
    pub params: bool,
}

impl Pipelines {
    /// Pipelines whose shaders are compiled without run-time checks; see [`super::Context::without_shader_checks`].
    pub fn unchecked() -> Self {
        Self { unchecked: true, ..Self::default() }
    }

    pub fn layout(&self, device: &wgpu::Device, bindings: Bindings) -> wgpu::BindGroupLayout {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        layouts.entry(bindings).or_insert_with(|| bindings.layout(device)).clone()
    }

    pub fn pipeline(&self, device: &wgpu::Device, kernel: &Kernel, bindings: Bindings) -> wgpu::ComputePipeline {
        let layout = self.layout(device, bindings);
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.entry((kernel.clone(), bindings)).or_insert_with(|| self.compile(device, kernel, &layout)).clone()
    }

    /// Forgets everything: what was made in a scope that met an error may be invalid.
    pub fn clear(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn compile(&self, device: &wgpu::Device, kernel: &Kernel, layout: &wgpu::BindGroupLayout) -> wgpu::ComputePipeline {
        let source = wgpu::ShaderSource::Wgsl(kernel.source().into());
        let module = self.module(device, wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source });
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
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: !self.unchecked,
                ..Default::default()
            },
            cache: None,
        })
    }

    #[expect(unsafe_code, reason = "run-time checks are off only where the maker of the context vouched for its kernels")]
    fn module(&self, device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
        if self.unchecked {
            // SAFETY: `Context::without_shader_checks` demands of its caller that no kernel needs the checks.
            unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        } else {
            device.create_shader_module(descriptor)
        }
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
