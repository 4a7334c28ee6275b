//! Benchmarks, profiles and tuning on this machine.

mod bench;
mod peak;
mod profile;
mod subject;
mod throughput;
mod tune;

use meddino::Result;

use super::flags::Bench;
use super::terminal::Terminal;

pub use profile::Profiling;
pub use tune::run as tune;

/// Runs `meddino bench`: measures a volume with `--slices`, else single batches.
pub fn bench(args: &Bench, terminal: &Terminal) -> Result<()> {
    match args.slices {
        Some(slices) => throughput::run(args, slices as usize, terminal),
        None => bench::run(args, terminal),
    }
}
