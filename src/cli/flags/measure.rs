//! The flags of `bench` and `tune`.

use super::model::{Compute, Model};

/// Say how fast the model runs here: seconds an image, GFLOP/s, memory
///
/// Runs the built-in thorax slice once to warm up, then --runs times, each run timed from the image on the host to the features on the host; on a GPU then
/// as often with the image on the device already and the features left there (device_s). The GFLOP/s count the model's matrix products alone, and are also
/// given as a share of what one large product reaches there (on a CPU in f32).
///
/// With --slices it takes that slice as a volume of so many, --batch at a time, as `features` does: slices are prepared, computed and written into a
/// temporary file (TMPDIR) at the same time. Slices a second are told and, on a GPU with timestamps, the share of the time between the first pass's begin
/// and the last one's end in which no pass ran.
#[derive(clap::Args)]
pub struct Bench {
    /// The weights as for `features` [default: seeded:0]
    #[command(flatten)]
    pub model: Model,
    /// Side of the square image in pixels
    #[arg(long, value_name = "N", default_value = "224")]
    pub size: usize,
    /// How many images go through the model at once
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// How many runs are timed
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Take a volume of N slices instead
    #[arg(long, value_name = "N", conflicts_with = "runs", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub slices: Option<u32>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Find the fastest tile geometries of the GPU's kernels, and keep them for later runs
///
/// Every geometry that the device allows is run over as many rows as images of 224 and of 896 pixels have (512 on a slow device); times are medians of rounds
/// in which each has its turn. What is found is kept in MEDDINO_CACHE, else in the user's folder for caches, for this adapter, driver and version. On a
/// real GPU the first command that uses it does the same by itself, which takes some seconds; with MEDDINO_CACHE set to nothing that is left out.
#[derive(clap::Args)]
pub struct Tune {
    #[command(flatten)]
    pub compute: Compute,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
