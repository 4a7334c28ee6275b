//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use meddino::ct::Size;

/// See a CT scan, and what MedDINOv3 sees in it.
///
/// Wheel, slider and arrow keys go through the slices, a drag with the right button sets level and width. A click shows
/// how alike every place is to the one under the mouse; another click holds that one. Research software, not a medical
/// device.
#[derive(clap::Parser, Debug)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// What to look at: NIfTI (.nii, .nii.gz, .hdr and .img); a DICOM file, or a folder of them; .npy of HU, [H, W] or
    /// [S, H, W]; or the word phantom, a built-in synthetic thorax slice. Files can be opened in the window, too, or
    /// dropped on it
    #[arg(value_name = "SCAN")]
    pub scan: Option<PathBuf>,
    /// The weights: a checkpoint file, or seeded:N or seeded:N:tiny for untrained ones [default: the released ones, if
    /// they are in the Hugging Face cache; they can be downloaded in the window]
    #[arg(short, long, value_name = "CHECKPOINT")]
    pub checkpoint: Option<String>,
    /// Size of the image that the model sees: native (the slice's own), N (for N x N) or HxW; larger ones give finer
    /// features
    #[arg(long, default_value = "native")]
    pub size: Size,
    /// Memory for the features of visited slices, in MB; the least recently seen go first
    #[arg(long, default_value = "1024", value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    pub cache: u32,
    /// How long the device computes features in one frame, in ms: less is smoother, more is sooner done
    #[arg(long, default_value = "8", value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub budget: u32,
    /// Write a line a frame to this file: what tests look at
    #[arg(long, hide = true)]
    pub log_frames: Option<PathBuf>,
}

impl Args {
    /// Returns the device's time for features in one frame.
    pub fn budget(&self) -> Duration {
        Duration::from_millis(u64::from(self.budget))
    }

    /// Returns the bytes of the cache for features.
    pub fn cache_bytes(&self) -> usize {
        self.cache as usize * 1_000_000
    }
}
