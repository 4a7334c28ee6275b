//! The limits that a device must have and the optional features that the engine uses, for hosts that open their own
//! device.

use crate::error::{Error, GpuFailure, Result};

/// An optional feature, which the engine uses if the device has it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The feature.
    pub feature: wgpu::Features,
    /// What the engine uses the feature for.
    pub gain: &'static str,
}

/// The lower bound of a limit; the engine refuses a device below it.
#[derive(Clone, Copy, Debug)]
pub struct Required {
    /// wgpu's name of the limit.
    pub limit: &'static str,
    /// The smallest value that is enough.
    pub least: u64,
    of: fn(&wgpu::Limits) -> u64,
}

/// The features that a host should request if its adapter has them. None is required.
pub const WANTED: [Wanted; 3] = [
    Wanted { feature: wgpu::Features::SUBGROUP, gain: "sums by subgroups" },
    Wanted { feature: wgpu::Features::SHADER_F16, gain: "weights and activations of f16: half the memory" },
    Wanted { feature: wgpu::Features::TIMESTAMP_QUERY, gain: "profiles by dispatch" },
];

/// The limits that every device must have. Every WebGPU device has them. The bytes that the engine binds at once depend
/// on the model and the image, so the planner checks them and returns an error if the device allows too few.
pub const REQUIRED: [Required; 6] = [
    Required { limit: "max_storage_buffers_per_shader_stage", least: 6, of: |l| l.max_storage_buffers_per_shader_stage.into() },
    Required { limit: "max_compute_invocations_per_workgroup", least: 256, of: |l| l.max_compute_invocations_per_workgroup.into() },
    Required { limit: "max_compute_workgroup_size_x", least: 256, of: |l| l.max_compute_workgroup_size_x.into() },
    Required { limit: "max_compute_workgroup_size_y", least: 16, of: |l| l.max_compute_workgroup_size_y.into() },
    Required { limit: "max_compute_workgroup_storage_size", least: 16 << 10, of: |l| l.max_compute_workgroup_storage_size.into() },
    Required { limit: "max_compute_workgroups_per_dimension", least: 256, of: |l| l.max_compute_workgroups_per_dimension.into() },
];

/// Returns a descriptor with which a host can open a device for itself and for this engine. It requests the wanted
/// features that the adapter has, and all of the adapter's limits, so that plans need not split large images into small
/// pieces. A host adds its own needs to both.
///
/// # Errors
/// If a limit of the adapter is below [`REQUIRED`].
pub fn descriptor(adapter: &wgpu::Adapter) -> Result<wgpu::DeviceDescriptor<'static>> {
    let limits = adapter.limits();
    check(&adapter.get_info().name, &limits)?;
    Ok(wgpu::DeviceDescriptor { required_features: wanted(adapter.features()), required_limits: limits, ..Default::default() })
}

/// Returns the wanted features that are in `available`.
pub(super) fn wanted(available: wgpu::Features) -> wgpu::Features {
    WANTED.iter().fold(wgpu::Features::empty(), |features, wanted| features | wanted.feature) & available
}

/// Checks that a device has the required limits.
///
/// # Errors
/// If a limit is too low. The text names each such limit, its value and the required value.
pub(super) fn check(device: &str, limits: &wgpu::Limits) -> Result<()> {
    let low: Vec<String> = REQUIRED
        .iter()
        .filter(|required| (required.of)(limits) < required.least)
        .map(|required| format!("{} is {} and should be at least {}", required.limit, (required.of)(limits), required.least))
        .collect();
    if low.is_empty() {
        return Ok(());
    }
    Err(Error::gpu(
        GpuFailure::Unsupported,
        format!(
            "the device on {device} has limits that are too low: {}; open it with the limits of gpu::descriptor, or use the CPU if the adapter has no more",
            low.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_webgpu_device_is_accepted_and_a_webgl_device_is_refused() {
        assert!(check("x", &wgpu::Limits::defaults()).is_ok());
        let refused = check("x", &wgpu::Limits::downlevel_webgl2_defaults()).unwrap_err().to_string();
        assert!(refused.contains("max_storage_buffers_per_shader_stage is 0 and should be at least 6"), "{refused}");
        let narrow = wgpu::Limits { max_compute_workgroup_storage_size: 8192, ..wgpu::Limits::defaults() };
        let refused = check("x", &narrow).unwrap_err().to_string();
        assert!(refused.contains("max_compute_workgroup_storage_size is 8192 and should be at least 16384;"), "{refused}");
    }
}
