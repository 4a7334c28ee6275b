//! The memory and threads that the system allows this process.

use std::fs;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::error::{Error, Result};

/// Advice for a user if a thread cannot be started.
pub const MORE_THREADS: &str = "raise the limit on processes (`ulimit -u`, or a container's pids limit) or on memory (`ulimit -v`)";

/// Starts a thread for one stage of the work.
///
/// # Errors
/// If the system refuses a thread.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let refused = |problem| Error::option("threads", format!("the system cannot start another thread: {problem}; {MORE_THREADS}"));
    Builder::new().spawn_scoped(scope, work).map_err(refused)
}

/// The memory that this process may still allocate, and the source of this limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryLimit {
    /// Bytes that are left, in addition to the memory that this process already has.
    pub bytes: u64,
    /// The limit's name: `ulimit -v`, `ulimit -d`, the container's limit, or the machine's memory.
    pub set_by: &'static str,
}

/// Returns the tightest limit of the machine, the container and the process; none if the system reports no limit.
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

/// Returns the resident bytes of this process; 0 if the system does not report them.
pub(super) fn resident_bytes() -> u64 {
    kib(&status(), "VmRSS:").unwrap_or(0)
}

/// Returns the peak resident bytes of this process (Linux: `VmHWM`); none if the system does not report them.
pub fn peak_resident_bytes() -> Option<u64> {
    kib(&status(), "VmHWM:")
}

/// Returns the bytes that are available to new processes (Linux: `MemAvailable`); none if the system does not report
/// them.
pub(super) fn available_bytes() -> Option<u64> {
    kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Returns the value of a line `NAME   123 kB` in bytes, as in files under /proc.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Returns the soft limit in a line `NAME   123   456   bytes`; none if it is unlimited.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Returns the tightest memory limit of this process's control groups (version 2: `memory.max`).
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
    fn limits_are_parsed_from_the_files_of_linux() {
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
