//! The flags that say how a scan becomes images.

use meddino::ct::{Orient, Size, Window};
use meddino::jobs::View;

/// How a scan becomes images.
#[derive(clap::Args)]
pub struct Look {
    /// Size of the image that the model sees: native (the slice's own; what is left over beyond a multiple of 16 is not
    /// seen), N (for N x N) or HxW
    #[arg(long, default_value = "native")]
    pub size: Size,
    /// From HU to what the model sees: demo (clamped to [-1000, 1000], the authors' mean and deviation), LO,HI,MEAN,STD in HU, or none
    #[arg(long, default_value = "demo", allow_hyphen_values = true)]
    pub window: Window,
    /// How slices lie: lps (axial, as DICOM shows them, from inferior to superior, whatever the storage order) or stored
    #[arg(long, default_value = "lps")]
    pub orient: Orient,
    /// Which stack of slices of a DICOM folder that holds several: its number (2, or 2.1 for the first of several
    /// stacks in series 2), the end of its series' UID, or largest, the one with most slices. Without this, the error
    /// lists them with their numbers. Where outputs go into a folder, all makes a case NAME_seriesN of each
    #[arg(long, value_name = "NUMBER|UID|largest|all")]
    pub series: Option<String>,
}

impl Look {
    /// What the flags mean.
    pub fn view(&self) -> View {
        View { size: self.size, window: self.window, orient: self.orient }
    }
}
