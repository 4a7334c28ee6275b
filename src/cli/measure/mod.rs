//! How fast the model runs on this machine, and where the time goes.

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

/// `meddino bench`: single batches, or a volume if the flags say so.
pub fn bench(args: &Bench, terminal: &Terminal) -> Result<()> {
    match args.slices {
        Some(slices) => throughput::run(args, slices as usize, terminal),
        None => bench::run(args, terminal),
    }
}
