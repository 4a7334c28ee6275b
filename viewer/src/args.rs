//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use meddino::ct::Size;
use meddino::embedding::Selection;

/// Shows a CT scan and its MedDINOv3 features.
///
/// The wheel, the slider and the arrow keys change the slice. Dragging with the right button sets level and width. A
/// click shows how similar each patch is to the patch under the mouse; another click keeps that patch. The keys 0 to 9
/// choose a label, which clicks and strokes then give to patches; a head is fitted to them and labels every slice. E is
/// the eraser, Ctrl+Z and Ctrl+Y undo and redo, Ctrl+S saves the label map and Ctrl+Shift+S the head for `meddino segment`.
/// Ctrl+Q quits.
/// Research software, not a medical device.
#[derive(clap::Parser, Debug)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// The scan: NIfTI (.nii, .nii.gz, .hdr and .img); a DICOM file, or a folder of them; .npy of HU, [H, W] or
    /// [S, H, W]; or the word phantom, a built-in synthetic thorax slice. A file can also be opened in the window, or
    /// dropped on it
    #[arg(value_name = "SCAN")]
    pub scan: Option<PathBuf>,
    /// The weights: a checkpoint file, or seeded:N or seeded:N:tiny for untrained weights [default: the released
    /// weights, if they are in the Hugging Face cache; the window can download them]
    #[arg(short, long, value_name = "CHECKPOINT")]
    pub checkpoint: Option<String>,
    /// GPU that draws the window and computes the features: a number or part of a name from `meddino devices`,
    /// low-power, or high-performance [default: the first in the order of `meddino devices` that works]
    #[arg(long, default_value = "auto", hide_default_value = true)]
    pub device: Selection,
    /// Size of the image that the model gets: native (the slice's own), N (for N x N) or HxW; larger images give finer
    /// features
    #[arg(long, default_value = "native")]
    pub size: Size,
    /// Memory for the features of visited slices, in MB; the least recently used are removed first
    #[arg(long, default_value = "1024", value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    pub cache: u32,
    /// Time for computing features in each frame, in ms: less is smoother, more finishes sooner
    #[arg(long, default_value = "8", value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub budget: u32,
    /// Head of the body, as `meddino probe fit --masks --foreground` wrote it, or painted here and saved: labels around the
    /// body become label 0, as with `meddino segment --foreground`
    #[arg(long, value_name = "BODY.safetensors")]
    pub foreground: Option<PathBuf>,
    /// Where the label map is saved: .nii.gz, .nii, .nrrd or .mha [default: a dialog asks]
    #[arg(long, value_name = "FILE")]
    pub save_labels: Option<PathBuf>,
    /// Where the head is saved: .safetensors, for `meddino segment --head` [default: a dialog asks]
    #[arg(long, value_name = "FILE")]
    pub save_head: Option<PathBuf>,
    /// Write a line for each frame to this file, for tests
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
