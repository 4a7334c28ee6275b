//! `meddino devices`: the GPU adapters and the CPU of this machine, and the order in which `auto` tries them.

use meddino::Result;
use meddino::cpu::InstructionSet;
use meddino::gpu::{DeviceReport, Ranked, devices};

use super::terminal::say::result;

/// Prints every adapter and the CPU, then the order in which `auto` tries them, and why. benches/gpu/run.sh reads that order.
pub fn run() -> Result<()> {
    let found = devices();
    for device in &found.list {
        result(device)?;
        describe(device)?;
    }
    let sets = InstructionSet::of_this_cpu().map(|set| set.to_string()).collect::<Vec<_>>().join(", ");
    result("CPU")?;
    result(format_args!("   sets       {sets}; {} is used", InstructionSet::chosen()?))?;
    let (tried, never): (Vec<_>, Vec<_>) = found.ranking().into_iter().partition(|ranked| !ranked.standing.is_below_cpu());
    let line = |Ranked { device, standing }: &Ranked| result(format_args!("   device {} ({}): {standing}", device.index, device.backend));
    if tried.is_empty() {
        result(format_args!("--backend auto takes the CPU{}", if never.is_empty() { ", because no GPU was found" } else { "" }))?;
    } else {
        result("--backend auto takes the first of these that works:")?;
        tried.iter().try_for_each(line)?;
        result("   the CPU")?;
    }
    if !never.is_empty() {
        result("--backend auto never takes:")?;
        never.iter().try_for_each(line)?;
    }
    Ok(())
}

fn describe(device: &DeviceReport) -> Result<()> {
    let limits = &device.limits;
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    result(format_args!("   driver     {}", device.driver))?;
    result(format_args!(
        "   tiers      {}",
        device.abilities.as_ref().map_or("none, because the device has no compute shaders".to_owned(), ToString::to_string)
    ))?;
    result(format_args!("   buffers    at most {}, {} per binding", mib(limits.max_buffer), mib(limits.max_binding)))?;
    result(format_args!(
        "   workgroups {} invocations, {} KiB of memory, {} per dimension",
        limits.max_invocations,
        limits.workgroup_memory >> 10,
        limits.max_workgroups
    ))?;
    result(format_args!(
        "   profiles   {}",
        if device.timestamps { "by dispatch" } else { "only in total, because the device has no timestamps" }
    ))
}
