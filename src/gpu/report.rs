//! What is known of an adapter before it is opened: its name, kind, abilities and limits.

use std::fmt;

use crate::graph::{Abilities, Elem, Limits, Tier, Tiles};

/// The kind of hardware behind an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU lent to a virtual machine.
    Virtual,
    /// An adapter whose driver does not tell its kind.
    Unknown,
    /// A software rasteriser such as llvmpipe, which runs on the CPU.
    Software,
}

impl Kind {
    fn new(device_type: wgpu::DeviceType) -> Self {
        match device_type {
            wgpu::DeviceType::DiscreteGpu => Self::Discrete,
            wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            wgpu::DeviceType::VirtualGpu => Self::Virtual,
            wgpu::DeviceType::Cpu => Self::Software,
            wgpu::DeviceType::Other => Self::Unknown,
        }
    }

    /// Returns the name for listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Unknown => "GPU",
            Self::Software => "software",
        }
    }
}

/// Returns the abilities of a device with these features. `matrices` are the adapter's cooperative matrices, which wgpu
/// does not report for a device.
pub(super) fn abilities(info: &wgpu::AdapterInfo, features: wgpu::Features, matrices: &[wgpu::CooperativeMatrixProperties]) -> Abilities {
    let subgroups = features.contains(wgpu::Features::SUBGROUP);
    let cooperative = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    let is_vulkan = info.backend == wgpu::Backend::Vulkan;
    let allowed = |side: &u32| Tier::ALL.iter().any(|tier| tier.cooperative() == Some(*side) && (is_vulkan || !tier.needs_vulkan()));
    let matrix = |m: &wgpu::CooperativeMatrixProperties| {
        let square = m.m_size == m.n_size && m.n_size == m.k_size;
        let types = (m.ab_type, m.cr_type) == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
        (square && types).then_some(m.m_size)
    };
    Abilities {
        software: software_tier(info),
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: subgroups.then_some(info.subgroup_max_size),
        cooperative: if cooperative { matrices.iter().filter_map(matrix).filter(allowed).collect() } else { Vec::new() },
    }
}

/// An adapter with its abilities and limits.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// The index that [`Selection::Index`](super::Selection::Index) takes.
    pub index: usize,
    /// The adapter's name, as the driver reports it.
    pub name: String,
    /// The graphics API: Vulkan, Metal, DX12, OpenGL.
    pub backend: &'static str,
    /// The numbers of the vendor and of the product, as on the PCI bus; 0 where the API does not tell them.
    pub product: (u32, u32),
    /// The place on the PCI bus; empty where the API does not tell it.
    pub bus: String,
    /// The kind of hardware.
    pub kind: Kind,
    /// The driver's name and version.
    pub driver: String,
    /// The optional shader features; `None` if the adapter cannot run this engine's shaders at all.
    pub abilities: Option<Abilities>,
    /// The adapter's limits.
    pub limits: Limits,
    /// Whether the adapter can time single dispatches, which a profile needs.
    pub timestamps: bool,
}

impl DeviceReport {
    pub(super) fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let software = software_tier(&info);
        let computes = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS);
        let fit = computes && limits.max_storage_buffers_per_shader_stage >= wgpu::Limits::defaults().max_storage_buffers_per_shader_stage;
        Self {
            driver: driver_text(&info),
            abilities: fit.then(|| abilities(&info, features, &adapter.cooperative_matrix_properties())),
            index,
            backend: backend_name(info.backend),
            product: (info.vendor, info.device),
            bus: info.device_pci_bus_id,
            kind: Kind::new(info.device_type),
            limits: limits_of(&limits, software),
            name: info.name,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        }
    }
}

/// Returns a driver's name and version, and the layer that it is, if it is one.
fn driver_text(info: &wgpu::AdapterInfo) -> String {
    let parts = [info.driver.as_str(), info.driver_info.as_str(), layer_below(info.backend)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What the driver's name does not tell: wine's DX12 is a layer over Vulkan, and calls whatever is below a card.
#[cfg(windows)]
fn layer_below(backend: wgpu::Backend) -> &'static str {
    let system = std::env::var_os("SystemRoot").map(|root| std::path::PathBuf::from(root).join("system32"));
    // A program that wine has, and Windows has not.
    let is_wine = system.is_some_and(|system| system.join("winecfg.exe").exists());
    if is_wine && backend == wgpu::Backend::Dx12 { "(wine)" } else { "" }
}

#[cfg(not(windows))]
fn layer_below(_backend: wgpu::Backend) -> &'static str {
    ""
}

fn backend_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "DX12",
        wgpu::Backend::Gl => "OpenGL",
        wgpu::Backend::BrowserWebGpu => "WebGPU",
        wgpu::Backend::Noop => "none",
    }
}

/// Returns [`Abilities::software`] of an adapter.
pub(super) fn software_tier(info: &wgpu::AdapterInfo) -> Option<Tier> {
    let has_baseline = info.backend == wgpu::Backend::Dx12 || cfg!(target_arch = "wasm32");
    let tier = if has_baseline { Tier::Baseline } else { Tier::Direct };
    (info.device_type == wgpu::DeviceType::Cpu).then_some(tier)
}

/// Extracts those of wgpu's limits that plans and kernels depend on, with the plainest tier of the device.
pub(super) fn limits_of(limits: &wgpu::Limits, software: Option<Tier>) -> Limits {
    Limits {
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        alignment: u64::from(limits.min_storage_buffer_offset_alignment),
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        tier: software.unwrap_or(Tier::Baseline),
        elem: Elem::F32,
        subgroup_size: 0,
        tiles: Tiles::DEFAULT,
        max_work: None,
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}, {})", self.index, self.name, self.backend, self.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_follow_from_features_and_matrices() {
        use wgpu::{CooperativeScalarType as S, Features as F};
        let info = wgpu::AdapterInfo {
            subgroup_min_size: 32,
            subgroup_max_size: 32,
            ..wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan)
        };
        let matrix = |side, ab_type, cr_type| wgpu::CooperativeMatrixProperties {
            m_size: side,
            n_size: side,
            k_size: side,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        };
        let wide = wgpu::CooperativeMatrixProperties { m_size: 8, ..matrix(16, S::F16, S::F32) };
        let matrices = [matrix(16, S::F16, S::F32), matrix(8, S::F16, S::F16), matrix(8, S::I32, S::I32), wide, matrix(8, S::F32, S::F32)];
        let all = F::SUBGROUP | F::SHADER_F16 | F::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let able = abilities(&info, all, &matrices);
        assert_eq!(able.cooperative, [16], "only square matrices of f16 with f32 sums");
        let metal = wgpu::AdapterInfo { backend: wgpu::Backend::Metal, ..info.clone() };
        assert!(abilities(&metal, all, &matrices).cooperative.is_empty(), "naga loads vec4 tiles wrongly");
        assert!(able.software == Some(Tier::Direct) && able.f16);
        let warp = abilities(&wgpu::AdapterInfo { backend: wgpu::Backend::Dx12, ..info.clone() }, all, &[]);
        assert_eq!(warp.software, Some(Tier::Baseline), "FXC takes minutes for a direct kernel");
        assert_eq!(able.subgroups, Some(32));
        let varying = wgpu::AdapterInfo { subgroup_max_size: 64, ..info.clone() };
        assert_eq!(abilities(&varying, all, &matrices).subgroups, Some(64), "the kernels are right for smaller ones");
        let plain = abilities(&info, F::SHADER_F16, &matrices);
        assert!(plain.cooperative.is_empty() && plain.subgroups.is_none());
    }
}
