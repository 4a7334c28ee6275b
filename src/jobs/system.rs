//! What the machine gives to a process: memory and threads.

use std::fs;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::error::{Error, Result};

/// What a user can do where no thread starts.
pub const MORE_THREADS: &str = "raise the limit on processes (`ulimit -u`, or a container's `pids` limit) or on memory (`ulimit -v`)";

/// Starts a thread for one stage of the work.
///
/// # Errors
/// If the system starts none.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let refused = |problem| Error::option("threads", format!("the system starts no further thread: {problem}; {MORE_THREADS}"));
    Builder::new().spawn_scoped(scope, work).map_err(refused)
}

/// Memory that this process may still take at most, and what sets the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryLimit {
    /// In bytes, beside what this process has already.
    pub bytes: u64,
    /// `ulimit -v`, a container's limit, or the machine.
    pub set_by: &'static str,
}

/// The least of what the machine, the container and the process's own limits leave; none where the system does not tell.
pub(super) fn memory_limit() -> Option<MemoryLimit> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let status = status();
    let taken = |name: &str| kib(&status, name).unwrap_or(0);
    let process = |line: &str| read("/proc/self/limits").and_then(|text| soft_limit(&text, line));
    let installed = read("/proc/meminfo").and_then(|text| Some(kib(&text, "MemTotal:")? + kib(&text, "SwapTotal:").unwrap_or(0)));
    let limits = [
        (process("Max address space"), taken("VmSize:"), "the limit on a process's memory (`ulimit -v`)"),
        (process("Max data size"), taken("VmData:"), "the limit on a process's data (`ulimit -d`)"),
        (container(), taken("VmRSS:"), "the memory limit of this container or job"),
        (installed, taken("VmRSS:"), "this machine's memory"),
    ];
    let left = limits.into_iter().filter_map(|(limit, taken, set_by)| Some(MemoryLimit { bytes: limit?.saturating_sub(taken), set_by }));
    left.min_by_key(|memory| memory.bytes)
}

/// Bytes of memory that this process has; 0 where the system does not tell.
pub(super) fn resident_bytes() -> u64 {
    kib(&status(), "VmRSS:").unwrap_or(0)
}

/// The most bytes of memory that this process has had (Linux: `VmHWM`); none where the system does not tell.
pub fn peak_resident_bytes() -> Option<u64> {
    kib(&status(), "VmHWM:")
}

/// Bytes that the system could give to new processes (Linux: `MemAvailable`); none where the system does not tell.
pub(super) fn available_bytes() -> Option<u64> {
    kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// The value of a line `NAME   123 kB` of a text of the Linux kernel's, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// The soft limit of a line `NAME   123   456   bytes`; none if there is no limit.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The least limit of the control groups that this process is in (version 2: `memory.max`).
fn container() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut group = std::path::Path::new(groups.lines().find_map(|line| line.strip_prefix("0::/"))?).to_path_buf();
    let mut least: Option<u64> = None;
    loop {
        let path = std::path::Path::new("/sys/fs/cgroup").join(&group).join("memory.max");
        let limit = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        least = least.into_iter().chain(limit).min();
        if !group.pop() {
            return least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_system_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max data size             unlimited            unlimited            bytes     \n\
                      Max address space         536870912            1073741824           bytes     \n";
        assert_eq!(soft_limit(limits, "Max address space"), Some(536_870_912));
        assert_eq!(soft_limit(limits, "Max data size"), None);
        assert_eq!(soft_limit(limits, "Max other"), None);
        assert_eq!(kib("VmPeak:\t    9 kB\nVmSize:\t   2048 kB\n", "VmSize:"), Some(2 << 20));
        assert_eq!(kib("VmSize: many", "VmSize:"), None);
    }
}
