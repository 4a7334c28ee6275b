//! Limits that the machine sets: each ends in an error that names it, and not in a panic or a signal.

use std::fs;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle, available_parallelism};

use meddino::{Error, Result};
use rayon::{ThreadBuilder, ThreadPoolBuilder};

use super::say::warn;

/// What a user can do where no thread starts.
const MORE_THREADS: &str = "raise the limit on processes (`ulimit -u`, or a container's `pids` limit) or on memory (`ulimit -v`)";

/// Sets the process up: signals and, for a command that computes, threads.
///
/// # Errors
/// If not one thread can be started.
pub fn begin(computes: bool) -> Result<()> {
    ignore_file_size_signal();
    if computes { start_threads(wanted_threads()) } else { Ok(()) }
}

/// A file that reaches `ulimit -f` is an error of the write that was refused, as a full disk is. The signal's default action would end the process at once, and leave half
/// a file.
fn ignore_file_size_signal() {
    #[cfg(unix)]
    {
        // A handler that only sets a flag: nobody needs to look at it. Where no handler can be had, the default stays.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    }
}

/// As many as rayon itself would start.
fn wanted_threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n: &usize| n > 0);
    asked.unwrap_or_else(|| available_parallelism().map_or(1, usize::from))
}

/// Starts the pool that all of the library computes on, with as many of the `wanted` threads as the system gives. The results do not depend on how many there are.
///
/// The threads come first, and rayon's work for them after: its global pool can be asked for once, and a pool that lacks one thread is none.
fn start_threads(wanted: usize) -> Result<()> {
    let (hand, take) = channel::<ThreadBuilder>();
    let take = Arc::new(Mutex::new(take));
    let mut refused = None;
    let mut started = 0;
    while started < wanted && refused.is_none() {
        let take = take.clone();
        let thread = Builder::new().spawn(move || {
            let work = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
            // Without a pool there is no work, and the thread ends.
            work.into_iter().for_each(ThreadBuilder::run);
        });
        match thread {
            Ok(_) => started += 1,
            Err(problem) => refused = Some(problem),
        }
    }
    if let Some(problem) = refused {
        if started == 0 {
            return Err(Error::option("threads", format!("the system starts not one thread: {problem}; {MORE_THREADS}")));
        }
        warn(format_args!("{started} of {wanted} threads could be started, and the work takes longer: {problem}; {MORE_THREADS}"));
    }
    let spawn = |thread| hand.send(thread).map_err(|_| std::io::Error::other("a thread ended"));
    let pool = ThreadPoolBuilder::new().num_threads(started).spawn_handler(spawn).build_global();
    pool.map_err(|problem| Error::option("threads", format!("no pool of {started}: {problem}; {MORE_THREADS}")))
}

/// Starts a thread for one stage of the work.
///
/// # Errors
/// If the system starts none.
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let refused = |problem| Error::option("threads", format!("the system starts no further thread: {problem}; {MORE_THREADS}"));
    Builder::new().spawn_scoped(scope, work).map_err(refused)
}

/// What to do about an error that a limit of the system is behind. The number is how the standard library shows every error of the system.
#[cfg(unix)]
pub fn advice(error: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 3] = [
        ("(os error 24)", "this process may not open so many files at once; raise the limit on descriptors (`ulimit -n`)"),
        ("(os error 23)", "the whole system has too many files open; close some, or raise its limit (`fs.file-max`)"),
        ("(os error 27)", "the file would be longer than files may be here; raise the limit (`ulimit -f`), or write to another disk"),
    ];
    KNOWN.iter().find(|(number, _)| error.contains(number)).map(|(_, advice)| *advice)
}

/// Only Unix numbers its errors so.
#[cfg(not(unix))]
pub fn advice(_: &str) -> Option<&'static str> {
    None
}

/// Memory that a process may take at most, and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// In bytes, beside what this process has already.
    pub bytes: u64,
    /// `ulimit -v`, a container's limit, or the machine.
    pub set_by: &'static str,
}

/// The least of what the machine, the container and the process's own limits leave; none where the system does not tell.
pub fn memory() -> Option<Memory> {
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
    let left = limits.into_iter().filter_map(|(limit, taken, set_by)| Some(Memory { bytes: limit?.saturating_sub(taken), set_by }));
    left.min_by_key(|memory| memory.bytes)
}

/// Bytes of memory that this process has; 0 where the system does not tell.
pub fn resident() -> u64 {
    kib(&status(), "VmRSS:").unwrap_or(0)
}

fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// The value of a line `NAME   123 kB` of a text of the Linux kernel's, in bytes.
pub fn kib(text: &str, name: &str) -> Option<u64> {
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

    #[test]
    #[cfg(unix)]
    fn errors_of_the_system_are_told_from_others() {
        let error = |code| std::io::Error::from_raw_os_error(code).to_string();
        assert!(advice(&error(24)).is_some_and(|advice| advice.contains("ulimit -n")));
        assert!(advice(&error(27)).is_some_and(|advice| advice.contains("ulimit -f")));
        assert_eq!(advice(&error(2)), None);
    }
}
