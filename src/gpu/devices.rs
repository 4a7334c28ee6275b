//! Lists the adapters of the machine with their abilities, and resolves a selection to one of them. Opens no device.

use std::fmt;
use std::str::FromStr;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{Abilities, Elem, Limits, Tier, Tiles};

/// How to choose an adapter. wgpu's `WGPU_BACKEND` restricts every choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// The adapter that `WGPU_ADAPTER_NAME` names, if it is set; else the best one for `WGPU_POWER_PREF`, which is
    /// high-performance by default.
    #[default]
    Auto,
    /// The adapter with this index in [`Devices::list`].
    Index(usize),
    /// The best adapter whose name contains this text, in upper or lower case.
    Name(String),
    /// The adapter that draws the least power: an integrated GPU before a discrete one.
    LowPower,
    /// The fastest adapter: a discrete GPU before an integrated one.
    HighPerformance,
}

impl FromStr for Selection {
    type Err = std::convert::Infallible;

    /// Parses `auto`, `low-power`, `high-performance`, an index, or part of a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "low-power" => Self::LowPower,
            "high-performance" => Self::HighPerformance,
            _ => text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Index),
        })
    }
}

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
    let fixed = info.subgroup_min_size == info.subgroup_max_size;
    let cooperative = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    let is_vulkan = info.backend == wgpu::Backend::Vulkan;
    let allowed = |side: &u32| Tier::ALL.iter().any(|tier| tier.cooperative() == Some(*side) && (is_vulkan || !tier.needs_vulkan()));
    let matrix = |m: &wgpu::CooperativeMatrixProperties| {
        let square = m.m_size == m.n_size && m.n_size == m.k_size;
        let types = (m.ab_type, m.cr_type) == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
        (square && types).then_some(m.m_size)
    };
    Abilities {
        software: info.device_type == wgpu::DeviceType::Cpu,
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups,
        subgroup_size: (subgroups && fixed).then_some(info.subgroup_min_size),
        cooperative: if cooperative { matrices.iter().filter_map(matrix).filter(allowed).collect() } else { Vec::new() },
    }
}

/// An adapter with its abilities and limits.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// The index that [`Selection::Index`] takes.
    pub index: usize,
    /// The adapter's name, as the driver reports it.
    pub name: String,
    /// The graphics API: Vulkan, Metal, DX12, OpenGL.
    pub backend: &'static str,
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
    fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let computes = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS);
        let fit = computes && limits.max_storage_buffers_per_shader_stage >= wgpu::Limits::defaults().max_storage_buffers_per_shader_stage;
        Self {
            abilities: fit.then(|| abilities(&info, features, &adapter.cooperative_matrix_properties())),
            index,
            backend: backend_name(info.backend),
            kind: Kind::new(info.device_type),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            limits: limits_of(&limits, info.device_type),
            name: info.name,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        }
    }

    /// Returns the sort key of the choice; smaller is better. The kind comes first, then the API, because one card is
    /// often listed under several APIs.
    fn rank(&self, low_power: bool) -> (u8, u8) {
        let kind = match (self.kind, low_power) {
            (Kind::Discrete, false) | (Kind::Integrated, true) => 0,
            (Kind::Discrete, true) | (Kind::Integrated, false) => 1,
            (Kind::Virtual, _) => 2,
            (Kind::Unknown, _) => 3,
            (Kind::Software, _) => 4,
        };
        (kind, u8::from(self.backend == backend_name(wgpu::Backend::Gl)))
    }
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

/// Extracts those of wgpu's limits that plans and kernels depend on.
pub(super) fn limits_of(limits: &wgpu::Limits, device_type: wgpu::DeviceType) -> Limits {
    Limits {
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        alignment: u64::from(limits.min_storage_buffer_offset_alignment),
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        tier: if device_type == wgpu::DeviceType::Cpu { Tier::Direct } else { Tier::Baseline },
        elem: Elem::F32,
        subgroup_size: 0,
        tiles: Tiles::DEFAULT,
        max_work: None,
    }
}

/// The backend that `auto` resolves to on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto {
    /// The GPU with this index.
    Gpu(usize),
    /// The CPU backend: the machine has no GPU, or only a software rasteriser, which is slower than our CPU code.
    Cpu,
}

/// Every adapter of this machine.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The adapters in wgpu's order; [`Selection::Index`] is an index into this list.
    pub list: Vec<DeviceReport>,
}

impl Devices {
    /// Returns the backend that `auto` takes: a real GPU before the CPU, the CPU before a software rasteriser.
    pub fn auto(&self) -> Auto {
        match self.best(false) {
            Some(device) if device.kind != Kind::Software => Auto::Gpu(device.index),
            _ => Auto::Cpu,
        }
    }

    fn best(&self, low_power: bool) -> Option<&DeviceReport> {
        self.list.iter().filter(|d| d.abilities.is_some()).min_by_key(|d| d.rank(low_power))
    }

    /// Returns the adapter that matches a selection.
    ///
    /// # Errors
    /// If the machine has no adapter, none has that index or name (the text lists all adapters), or the adapter cannot
    /// run this engine.
    pub fn select(&self, selection: &Selection) -> Result<&DeviceReport> {
        let found = match selection {
            Selection::Auto | Selection::HighPerformance => self.best(false),
            Selection::LowPower => self.best(true),
            Selection::Index(index) => self.list.get(*index),
            Selection::Name(part) => self.named(part),
        };
        match found {
            Some(device) if device.abilities.is_none() => {
                Err(Error::gpu(GpuFailure::Unsupported, format!("{device} has no compute shaders; choose another with `device`")))
            }
            Some(device) => Ok(device),
            None if self.list.is_empty() => Err(Error::gpu(
                GpuFailure::NoDevice,
                "no adapter found; install a Vulkan, Metal or DX12 driver (Mesa's software Vulkan is enough), check that WGPU_BACKEND does not exclude it, or use `backend` cpu",
            )),
            None => Err(Error::gpu(GpuFailure::NoDevice, format!("no adapter matches {selection:?}; choose one of\n{self}"))),
        }
    }

    /// Returns the best adapter whose name contains `part`. One card may be listed under several APIs.
    fn named(&self, part: &str) -> Option<&DeviceReport> {
        let part = part.to_lowercase();
        let fits = |d: &&DeviceReport| d.name.to_lowercase().contains(&part);
        self.list.iter().filter(fits).min_by_key(|d| (d.abilities.is_none(), d.rank(false)))
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}, {})", self.index, self.name, self.backend, self.kind.name())
    }
}

impl fmt::Display for Devices {
    /// Writes one line for each adapter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.iter().try_for_each(|device| writeln!(f, "  {device}"))
    }
}

/// Lists the adapters that `WGPU_BACKEND` allows. If it is not set, lists those of Vulkan, Metal and DX12, or those of
/// OpenGL if there are none.
#[cfg(not(target_arch = "wasm32"))]
pub fn devices() -> Devices {
    block_on(devices_async())
}

/// [`devices`] as a future.
pub async fn devices_async() -> Devices {
    adapters().await.0
}

/// The share (in per cent) of the driver's memory budget for this process beyond which allocations fail, before the
/// driver starts to page or the system runs out of memory. Drivers that report no budget have no such bound.
const BUDGET: wgpu::MemoryBudgetThresholds = wgpu::MemoryBudgetThresholds { for_resource_creation: Some(95), for_device_loss: None };

/// Lists the adapters as [`devices_async`] does, with wgpu's handles in the same order.
pub(super) async fn adapters() -> (Devices, Vec<wgpu::Adapter>) {
    let mut adapters = Vec::new();
    for backends in wgpu::Backends::from_env().map_or(vec![wgpu::Backends::PRIMARY, wgpu::Backends::SECONDARY], |only| vec![only]) {
        if adapters.is_empty() {
            let from_env = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
            let descriptor = wgpu::InstanceDescriptor { backends, memory_budget_thresholds: BUDGET, ..from_env };
            adapters = wgpu::Instance::new(descriptor).enumerate_adapters(backends).await;
        }
    }
    let list = adapters.iter().enumerate().map(|(index, adapter)| DeviceReport::new(index, adapter)).collect();
    (Devices { list }, adapters)
}

/// Replaces [`Selection::Auto`] by the selection that the environment variables ask for.
pub(super) fn resolve(selection: &Selection) -> Selection {
    if *selection != Selection::Auto {
        return selection.clone();
    }
    match (std::env::var("WGPU_ADAPTER_NAME"), wgpu::PowerPreference::from_env()) {
        (Ok(name), _) if !name.is_empty() => Selection::Name(name),
        (_, Some(wgpu::PowerPreference::LowPower)) => Selection::LowPower,
        _ => Selection::HighPerformance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(devices: &[(&str, &'static str, Kind, bool)]) -> Devices {
        let report = |(index, &(name, backend, kind, fit)): (usize, &(&str, &'static str, Kind, bool))| DeviceReport {
            index,
            name: name.to_owned(),
            backend,
            kind,
            driver: String::new(),
            abilities: fit.then(Abilities::default),
            limits: Limits::DEFAULT,
            timestamps: true,
        };
        Devices { list: devices.iter().enumerate().map(report).collect() }
    }

    fn laptop() -> Devices {
        machine(&[
            ("llvmpipe", "Vulkan", Kind::Software, true),
            ("NVIDIA RTX", "OpenGL", Kind::Discrete, true),
            ("Intel Iris", "Vulkan", Kind::Integrated, true),
            ("NVIDIA RTX", "Vulkan", Kind::Discrete, true),
            ("Old Radeon", "OpenGL", Kind::Discrete, false),
        ])
    }

    #[test]
    fn a_selection_names_one_adapter() {
        let index = |text: &str| laptop().select(&text.parse().unwrap()).map(|device| device.index).map_err(|e| e.to_string());
        assert_eq!(index("high-performance"), Ok(3), "Vulkan before OpenGL");
        assert_eq!(index("auto"), Ok(3));
        assert_eq!(index("low-power"), Ok(2));
        assert_eq!(index("1"), Ok(1));
        assert_eq!(index("nvidia"), Ok(3));
        assert_eq!(index("LLVM"), Ok(0));
        assert!(index("radeon").unwrap_err().contains("4: Old Radeon (OpenGL, discrete GPU) has no compute shaders"));
        for unknown in ["7", "arc"] {
            let message = index(unknown).unwrap_err();
            assert!(message.contains("no adapter matches"), "{message}");
            assert!(message.contains("2: Intel Iris (Vulkan, integrated GPU)"), "{message}");
        }
        assert!(machine(&[]).select(&Selection::Auto).unwrap_err().to_string().contains("no adapter found"));
    }

    #[test]
    fn auto_takes_a_real_gpu_then_the_cpu() {
        assert_eq!(laptop().auto(), Auto::Gpu(3));
        assert_eq!(machine(&[("llvmpipe", "Vulkan", Kind::Software, true)]).auto(), Auto::Cpu);
        assert_eq!(machine(&[("Old Radeon", "OpenGL", Kind::Discrete, false)]).auto(), Auto::Cpu);
        assert_eq!(machine(&[]).auto(), Auto::Cpu);
    }

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
        assert!(able.software && able.f16 && able.subgroups);
        assert_eq!(able.subgroup_size, Some(32));
        let varying = wgpu::AdapterInfo { subgroup_max_size: 64, ..info.clone() };
        assert_eq!(abilities(&varying, all, &matrices).subgroup_size, None);
        let plain = abilities(&info, F::SHADER_F16, &matrices);
        assert!(plain.cooperative.is_empty() && !plain.subgroups && plain.subgroup_size.is_none());
    }
}
