//! The flags of `bench` and `tune`.

use super::model::{Compute, Model};

/// Measure the model's speed on this machine: seconds per image, GFLOP/s, memory
///
/// Runs the built-in thorax slice once to warm up, then --runs times. Each run is timed from the image on the host to
/// the features on the host. On a GPU, --runs more runs keep image and features on the device (device_s). GFLOP/s
/// count only the model's matrix products; they are also given as a share of the speed of one large product on the
/// same device (on a CPU in f32).
///
/// --slices measures a volume of N copies of that slice, --batch at a time, as `features` processes a volume: it
/// prepares, computes and writes slices to a temporary file (in TMPDIR) at the same time. The result is slices per
/// second and, on a GPU with timestamps, the share of time between the start of the first pass and the end of the last
/// pass in which the GPU was idle.
#[derive(clap::Args)]
pub struct Bench {
    // The weights are seeded:0 by default.
    #[command(flatten)]
    pub model: Model,
    /// Side of the square image in pixels
    #[arg(long, value_name = "N", default_value = "224")]
    pub size: usize,
    /// Number of images in a batch
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// Number of timed runs
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Measure a volume of N slices instead
    #[arg(long, value_name = "N", conflicts_with = "runs", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub slices: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Find the fastest tile geometries for the GPU's kernels and cache them for later runs
///
/// Runs every geometry that the device supports with the row counts of 224- and 896-pixel images (512 on a slow
/// device). Geometries take turns in rounds, and the times are medians over the rounds. The results are stored for this
/// adapter, driver and version in MEDDINO_CACHE, else in the user's cache folder. On a real GPU, the first command that
/// uses the GPU tunes it automatically, which takes a few seconds; set MEDDINO_CACHE to an empty value to prevent that.
#[derive(clap::Args)]
pub struct Tune {
    #[command(flatten)]
    pub compute: Compute,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
