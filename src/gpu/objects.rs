//! The objects that a device is asked for, each kind in one place: where a test may have any of them fail, as on a device without memory.

use super::context::Context;

/// Each is made in a scope of [`Context::checked`], which turns what the device objects to into an error.
impl Context {
    pub(super) fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        // A buffer of no use is none.
        let usage = if self.is_to_fail() { wgpu::BufferUsages::empty() } else { usage };
        self.device().create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    }

    pub(super) fn query_set(&self, label: &str, count: u32) -> wgpu::QuerySet {
        let count = if self.is_to_fail() { 0 } else { count };
        self.device().create_query_set(&wgpu::QuerySetDescriptor { label: Some(label), ty: wgpu::QueryType::Timestamp, count })
    }

    /// Bindings of compute shaders, from 0 on.
    pub(super) fn bind_group_layout(&self, label: &str, kinds: impl IntoIterator<Item = wgpu::BindingType>) -> wgpu::BindGroupLayout {
        let to_fail = self.is_to_fail();
        // Two bindings of one number are none.
        let number = |binding| if to_fail { 0 } else { binding };
        let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding: number(binding),
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        };
        let entries: Vec<_> = (0..).zip(kinds).map(entry).collect();
        self.device().create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
    }

    /// What is bound, from 0 on.
    pub(super) fn bind_group<'a>(
        &self,
        label: &str,
        layout: &wgpu::BindGroupLayout,
        resources: impl IntoIterator<Item = wgpu::BindingResource<'a>>,
    ) -> wgpu::BindGroup {
        let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
        let mut entries: Vec<_> = (0..).zip(resources).map(entry).collect();
        if self.is_to_fail() {
            entries.clear();
        }
        self.device().create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
    }

    pub(super) fn pipeline_layout(&self, label: &str, bind_group_layout: &wgpu::BindGroupLayout) -> wgpu::PipelineLayout {
        // Immediate data, of which no device was asked to have any.
        let immediate_size = if self.is_to_fail() { 1 << 20 } else { 0 };
        self.device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(bind_group_layout)],
            immediate_size,
        })
    }

    /// A shader, without run-time checks where it is `trusted`: by the step that it stands in ([`crate::graph::Graph::is_trusted`]).
    #[expect(unsafe_code, reason = "run-time checks are left out only of shaders that somebody vouched for")]
    pub(super) fn shader(&self, label: &str, text: String, trusted: bool) -> wgpu::ShaderModule {
        let text = if self.is_to_fail() { "no shader".to_owned() } else { text };
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
        if trusted {
            // SAFETY: the step was pushed by `Graph::push_unchecked`, which demands of its caller that the shader needs no checks with the step's views,
            // parameters and grid. A graph's steps do not change after that, and `Executable::new` binds those views and runs that grid.
            unsafe { self.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        } else {
            self.device().create_shader_module(descriptor)
        }
    }

    pub(super) fn compute_pipeline(
        &self,
        label: &str,
        layout: &wgpu::PipelineLayout,
        module: &wgpu::ShaderModule,
        compilation_options: wgpu::PipelineCompilationOptions<'_>,
    ) -> wgpu::ComputePipeline {
        let entry_point = Some(if self.is_to_fail() { "nowhere" } else { "main" });
        let (label, layout) = (Some(label), Some(layout));
        self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout,
            module,
            entry_point,
            compilation_options,
            cache: None,
        })
    }
}
