//! Lists the adapters of the machine, and resolves a selection to one of them. Opens no device.

use std::fmt;
use std::str::FromStr;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::ranking::{Ranked, ranking};
use super::report::DeviceReport;
use crate::advice::{ADAPTER, CPU, OTHER};
use crate::error::{Error, GpuFailure, Result};

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

/// Every adapter of this machine.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The adapters in wgpu's order; [`Selection::Index`] is an index into this list.
    pub list: Vec<DeviceReport>,
}

impl Devices {
    /// Reports adapters that a host has listed, so that the host can choose among them as this engine does. The index
    /// of each report is the adapter's index in `adapters`.
    pub fn of(adapters: &[wgpu::Adapter]) -> Self {
        Self { list: adapters.iter().enumerate().map(|(index, adapter)| DeviceReport::new(index, adapter)).collect() }
    }

    /// Returns the adapters that a selection may mean, best first. [`Selection::Auto`] may mean every adapter of
    /// [`Devices::ranking`], unless an environment variable selects one; any other selection means one adapter.
    ///
    /// # Errors
    /// As [`Devices::select`].
    pub fn candidates(&self, selection: &Selection) -> Result<Vec<&DeviceReport>> {
        let resolved = resolve(selection);
        if *selection == Selection::Auto && resolved == Selection::HighPerformance && !self.list.is_empty() {
            return Ok(self.ranking().into_iter().map(|ranked| ranked.device).collect());
        }
        self.select(&resolved).map(|device| vec![device])
    }

    /// Returns the adapters in the order in which [`Choice::Auto`](crate::backbone::Choice::Auto) tries them, those that
    /// it never takes last. Adapters without compute shaders are left out.
    pub fn ranking(&self) -> Vec<Ranked<'_>> {
        ranking(&self.list, false)
    }

    /// Returns the adapters that [`Choice::Auto`](crate::backbone::Choice::Auto) tries before the CPU, in this order.
    pub fn before_cpu(&self) -> impl Iterator<Item = &DeviceReport> {
        self.ranking().into_iter().filter(|ranked| !ranked.standing.is_below_cpu()).map(|ranked| ranked.device)
    }

    fn best(&self, low_power: bool) -> Option<&DeviceReport> {
        ranking(&self.list, low_power).first().map(|ranked| ranked.device)
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
                Err(Error::gpu(GpuFailure::Unsupported, format!("{device} has no compute shaders; {OTHER}use {CPU}")))
            }
            Some(device) => Ok(device),
            None if self.list.is_empty() => Err(Error::gpu(GpuFailure::NoDevice, format!("no adapter found; {ADAPTER}, or use {CPU}"))),
            None => Err(Error::gpu(GpuFailure::NoDevice, format!("no adapter matches {selection:?}; choose one of\n{self}"))),
        }
    }

    /// Returns the best adapter whose name contains `part`. One card may be listed under several APIs.
    fn named(&self, part: &str) -> Option<&DeviceReport> {
        let part = part.to_lowercase();
        let fits = |d: &&DeviceReport| d.name.to_lowercase().contains(&part);
        self.ranking().into_iter().map(|ranked| ranked.device).find(fits).or_else(|| self.list.iter().find(fits))
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
    (Devices::of(&adapters), adapters)
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
    use crate::gpu::Kind;
    use crate::gpu::ranking::tests::{card, list};

    fn laptop() -> Devices {
        let unfit = DeviceReport { abilities: None, ..card("Old Radeon", "OpenGL", Kind::Discrete) };
        Devices {
            list: list(vec![
                card("llvmpipe", "Vulkan", Kind::Software),
                card("NVIDIA RTX", "OpenGL", Kind::Discrete),
                card("Intel Iris", "Vulkan", Kind::Integrated),
                card("NVIDIA RTX", "Vulkan", Kind::Discrete),
                unfit,
            ]),
        }
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
        let all =
            |devices: &Devices, selection| devices.candidates(&selection).map(|found| found.iter().map(|d| d.index).collect::<Vec<_>>());
        assert_eq!(all(&laptop(), Selection::Name("intel".into())).unwrap(), [2]);
        assert!(all(&Devices { list: Vec::new() }, Selection::Auto).is_err());
        assert!(Devices { list: Vec::new() }.select(&Selection::Auto).unwrap_err().to_string().contains("no adapter found"));
    }
}
