//! The flags that say how a scan becomes images.

use meddino::ct::{Orient, Size, Window};
use meddino::jobs::View;

/// Which images a scan becomes.
#[derive(clap::Args)]
pub struct Look {
    #[command(flatten)]
    pub view: ScanView,
    #[command(flatten)]
    pub series: Series,
}

/// How slices become images.
#[derive(clap::Args)]
pub struct ScanView {
    /// Size of the image that the model sees: native, N (for N x N) or HxW
    ///
    /// native keeps the slice's size; pixels beyond the last multiple of 16 are ignored.
    #[arg(long, default_value = "native")]
    pub size: Size,
    /// How HU are normalised: demo, LO,HI,MEAN,STD in HU, or none
    ///
    /// demo clamps to [-1000, 1000] and uses the authors' mean and standard deviation.
    #[arg(long, default_value = "demo", allow_hyphen_values = true)]
    pub window: Window,
    /// Orientation of the slices: lps or stored
    ///
    /// lps gives axial slices as DICOM shows them, from inferior to superior, whatever the storage order. stored takes
    /// the slices as they are in the file.
    #[arg(long, default_value = "lps")]
    pub orient: Orient,
}

/// Which slices of a DICOM folder.
#[derive(clap::Args)]
pub struct Series {
    /// Which stack of slices to read from a DICOM folder that holds several
    ///
    /// Give its number (2, or 2.1 for the first of several stacks in series 2), the end of its series UID, or largest
    /// for the stack with the most slices. Without this flag, the error lists the stacks and their numbers. With a
    /// folder of outputs, all makes one case, NAME_seriesN, of each stack.
    #[arg(long, value_name = "NUMBER|UID|largest|all")]
    pub series: Option<String>,
}

impl ScanView {
    /// Returns the view that the flags describe.
    pub fn view(&self) -> View {
        View { size: self.size, window: self.window, orient: self.orient }
    }
}
