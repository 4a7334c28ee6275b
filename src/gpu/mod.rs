//! Devices: context, pipelines, executable, readback. With the backbone, the only place that uses wgpu.
