//! `meddino devices`: the GPU adapters and the CPU of this machine, and the backend that `auto` chooses.

use meddino::Result;
use meddino::cpu::InstructionSet;
use meddino::gpu::{Auto, DeviceReport, devices};

use super::terminal::say::result;

/// Prints every adapter and the CPU, then the choice of `auto`.
pub fn run() -> Result<()> {
    let found = devices();
    for device in &found.list {
        result(device)?;
        describe(device)?;
    }
    let sets = InstructionSet::of_this_cpu().map(|set| set.to_string()).collect::<Vec<_>>().join(", ");
    result("CPU")?;
    result(format_args!("   sets       {sets}; {} is used", InstructionSet::chosen()?))?;
    match found.auto() {
        Auto::Gpu(index) => result(format_args!("--backend auto takes device {index}")),
        Auto::Cpu if found.list.is_empty() => result("no GPU found; --backend auto takes the CPU"),
        Auto::Cpu => result("--backend auto takes the CPU, because it is faster than a software GPU"),
    }
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
