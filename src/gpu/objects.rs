//! Creates the GPU objects, each kind in one function, where a test can make any of them fail as a device without
//! memory does.

use super::context::Context;

/// Callers create each object inside [`Context::checked`], which turns the device's validation errors into our errors.
impl Context {
    pub(super) fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        // wgpu refuses a buffer without any usage.
        let usage = if self.should_fail() { wgpu::BufferUsages::empty() } else { usage };
        self.device().create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    }

    pub(super) fn query_set(&self, label: &str, count: u32) -> wgpu::QuerySet {
        let count = if self.should_fail() { 0 } else { count };
        self.device().create_query_set(&wgpu::QuerySetDescriptor { label: Some(label), ty: wgpu::QueryType::Timestamp, count })
    }

    /// Creates a layout for compute shaders, whose bindings are numbered from 0.
    pub(super) fn bind_group_layout(&self, label: &str, kinds: impl IntoIterator<Item = wgpu::BindingType>) -> wgpu::BindGroupLayout {
        let should_fail = self.should_fail();
        // wgpu refuses a layout in which two bindings have the same number.
        let number = |binding| if should_fail { 0 } else { binding };
        let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding: number(binding),
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        };
        let entries: Vec<_> = (0..).zip(kinds).map(entry).collect();
        self.device().create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
    }

    /// Creates a bind group, whose resources are numbered from 0.
    pub(super) fn bind_group<'a>(
        &self,
        label: &str,
        layout: &wgpu::BindGroupLayout,
        resources: impl IntoIterator<Item = wgpu::BindingResource<'a>>,
    ) -> wgpu::BindGroup {
        let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
        let mut entries: Vec<_> = (0..).zip(resources).map(entry).collect();
        if self.should_fail() {
            entries.clear();
        }
        self.device().create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
    }

    pub(super) fn pipeline_layout(&self, label: &str, bind_group_layout: &wgpu::BindGroupLayout) -> wgpu::PipelineLayout {
        // wgpu refuses so much immediate data, because no device is opened with any.
        let immediate_size = if self.should_fail() { 1 << 20 } else { 0 };
        self.device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(bind_group_layout)],
            immediate_size,
        })
    }

    /// Creates a shader, without run-time checks if the step that uses it is `trusted`
    /// ([`crate::graph::Graph::is_trusted`]).
    #[expect(unsafe_code, reason = "only shaders whose steps were pushed as unchecked go without run-time checks")]
    pub(super) fn shader(&self, label: &str, text: String, trusted: bool) -> wgpu::ShaderModule {
        let text = if self.should_fail() { "no shader".to_owned() } else { text };
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
        if trusted {
            // SAFETY: `Graph::push_unchecked` pushed the step. Its contract is that the shader needs no checks with the
            // step's views, parameters and grid. A graph's steps do not change after the push, and `Executable::new`
            // binds exactly those views and runs exactly that grid.
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
        let entry_point = Some(if self.should_fail() { "nowhere" } else { "main" });
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
