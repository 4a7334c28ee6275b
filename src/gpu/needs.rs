//! What a device must allow, and what is made use of where it is there: for hosts that open their own.

use crate::error::{Error, GpuFailure, Result};

/// A feature that is used where a device has it, and is not needed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The feature.
    pub feature: wgpu::Features,
    /// What it is good for.
    pub gain: &'static str,
}

/// A limit below which a device is refused.
#[derive(Clone, Copy, Debug)]
pub struct Required {
    /// wgpu's name of it.
    pub limit: &'static str,
    /// The least that will do.
    pub least: u64,
    of: fn(&wgpu::Limits) -> u64,
}

/// The features for which a host should ask where its adapter has them. None is required.
pub const WANTED: [Wanted; 3] = [
    Wanted { feature: wgpu::Features::SUBGROUP, gain: "sums by subgroups" },
    Wanted { feature: wgpu::Features::SHADER_F16, gain: "weights and activations of f16: half the memory" },
    Wanted { feature: wgpu::Features::TIMESTAMP_QUERY, gain: "profiles by dispatch" },
];

/// The limits that every device must have: no more than WebGPU grants anywhere. How much may be bound at once depends on the model and the image; where it
/// is not enough, planning says so.
pub const REQUIRED: [Required; 6] = [
    Required { limit: "max_storage_buffers_per_shader_stage", least: 6, of: |l| l.max_storage_buffers_per_shader_stage.into() },
    Required { limit: "max_compute_invocations_per_workgroup", least: 256, of: |l| l.max_compute_invocations_per_workgroup.into() },
    Required { limit: "max_compute_workgroup_size_x", least: 256, of: |l| l.max_compute_workgroup_size_x.into() },
    Required { limit: "max_compute_workgroup_size_y", least: 16, of: |l| l.max_compute_workgroup_size_y.into() },
    Required { limit: "max_compute_workgroup_storage_size", least: 16 << 10, of: |l| l.max_compute_workgroup_storage_size.into() },
    Required { limit: "max_compute_workgroups_per_dimension", least: 256, of: |l| l.max_compute_workgroups_per_dimension.into() },
];

/// A descriptor by which a host may open a device for itself and for this engine: the wanted features that the adapter has, and its own limits, so that
/// large images need not be cut into small pieces. A host with needs of its own adds to both.
///
/// # Errors
/// If the adapter lacks what is required.
pub fn descriptor(adapter: &wgpu::Adapter) -> Result<wgpu::DeviceDescriptor<'static>> {
    let limits = adapter.limits();
    check(&adapter.get_info().name, &limits)?;
    Ok(wgpu::DeviceDescriptor { required_features: wanted(adapter.features()), required_limits: limits, ..Default::default() })
}

/// Those of the wanted features that there are.
pub(super) fn wanted(there: wgpu::Features) -> wgpu::Features {
    WANTED.iter().fold(wgpu::Features::empty(), |all, wanted| all | wanted.feature) & there
}

/// Whether a device allows what is required.
///
/// # Errors
/// Names every limit that is too low, what it is and what it should be.
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
            "the device on {device} allows too little: {}; open it with the limits of gpu::descriptor, or use the CPU if the adapter has no more",
            low.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_webgpu_device_will_do_and_no_webgl_one() {
        assert!(check("x", &wgpu::Limits::defaults()).is_ok());
        let refused = check("x", &wgpu::Limits::downlevel_webgl2_defaults()).unwrap_err().to_string();
        assert!(refused.contains("max_storage_buffers_per_shader_stage is 0 and should be at least 6"), "{refused}");
        let narrow = wgpu::Limits { max_compute_workgroup_storage_size: 8192, ..wgpu::Limits::defaults() };
        let refused = check("x", &narrow).unwrap_err().to_string();
        assert!(refused.contains("max_compute_workgroup_storage_size is 8192 and should be at least 16384;"), "{refused}");
    }
}
