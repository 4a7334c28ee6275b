//! The interface of the format readers: a scan as it is stored.

use std::fmt;

use super::affine::Affine;
use crate::error::Problem;

/// The largest side of a slice that a reader accepts. A slice of 16384 x 16384 takes 1 GiB as f32.
pub(super) const MAX_SLICE_SIDE: usize = 16_384;
/// The most slices that a scan may have. A volume of these sizes has 2^52 voxels, so that no offset overflows.
pub const MAX_SLICES: usize = 1 << 24;

/// Checks the sizes [S, H, W] that a file states.
///
/// # Errors
/// If a side is 0 or too long.
#[cfg(feature = "readers")]
pub(super) fn shape([slices, height, width]: [u64; 3]) -> Result<[usize; 3], String> {
    if [slices, height, width].contains(&0) {
        return Err(format!("broken header: {slices} x {height} x {width} voxels (slices, rows, columns), expected at least 1 each"));
    }
    if width.max(height) > MAX_SLICE_SIDE as u64 {
        return Err(format!("slices of {height} x {width} are beyond {MAX_SLICE_SIDE} pixels a side"));
    }
    if slices > MAX_SLICES as u64 {
        return Err(format!("{slices} slices are beyond {MAX_SLICES}"));
    }
    Ok([slices, height, width].map(|side| side as usize))
}

/// A scan as its file stores it, before its axes are reordered. Every reader returns one.
#[derive(Debug)]
pub(super) struct StoredScan {
    /// [S, H, W]: slices, rows, columns. No side is 0.
    pub shape: [usize; 3],
    /// The voxel grid, if the file defines one. It may be invalid; [`super::Orient`] checks it.
    pub affine: Option<Affine>,
    /// The format and other identifying facts as (name, text), for the metadata of outputs: `("format", "NIfTI-1")`.
    pub about: Vec<(&'static str, String)>,
    /// The header of a NIfTI file, which label maps of the scan repeat. None after the axes are reordered.
    #[cfg(feature = "readers")]
    pub nifti: Option<Box<super::nifti::Fields>>,
    /// The grid of a MetaImage file, which label maps of the scan repeat. None after the axes are reordered.
    #[cfg(feature = "readers")]
    pub grid: Option<Box<super::grid::Grid>>,
    /// The DICOM images of the slices. None after the axes are reordered.
    #[cfg(feature = "readers")]
    pub dicom: Option<std::sync::Arc<super::dicom_images::DicomImages>>,
    /// Warnings about properties that may affect the result. Each is a sentence without the file's name.
    pub warnings: Vec<String>,
    /// The values.
    pub slices: Box<dyn SliceReader>,
}

impl StoredScan {
    /// Creates a scan of `shape` [S, H, W] without an affine, which reads its values from `slices`.
    pub fn of_slices(shape: [usize; 3], slices: Box<dyn SliceReader>) -> Self {
        Self {
            shape,
            affine: None,
            about: Vec::new(),
            #[cfg(feature = "readers")]
            nifti: None,
            #[cfg(feature = "readers")]
            grid: None,
            #[cfg(feature = "readers")]
            dicom: None,
            warnings: Vec::new(),
            slices,
        }
    }
}

/// A source of slices in Hounsfield units, read on request and in any order.
///
/// A program implements this for its own storage and hands it to [`super::Volume::from_slices`]:
///
/// ```
/// use meddino::ct::{Affine, Geometry, PatientAxes, SliceReader, Volume};
/// use meddino::error::Problem;
///
/// /// A scan of 16-bit integers.
/// struct Integers {
///     values: Vec<i16>, // [S, H, W]
///     pixels: usize,    // H * W
/// }
///
/// impl SliceReader for Integers {
///     fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
///         Ok(self.values[index * self.pixels..][..self.pixels].iter().map(|v| f32::from(*v)).collect())
///     }
/// }
///
/// let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
/// let affine = Affine::new(PatientAxes::Lps, [0.8, 0.8, 2.5], [-100.0, -100.0, 0.0], identity)?;
/// let geometry = Geometry::new([3, 4, 5], affine)?; // slices, rows, columns
/// let mut scan = Volume::from_slices("integers", Integers { values: vec![-1000; 60], pixels: 20 }, &geometry);
/// assert_eq!(scan.read_slice(2)?.shape(), [4, 5]);
/// # Ok::<(), meddino::Error>(())
/// ```
pub trait SliceReader: Send {
    /// Reads slice `index`: H * W values, row-major. [`super::Volume::read_slice`] refuses NaN, infinity, and any other
    /// number of values.
    ///
    /// # Errors
    /// A description of the problem without the scan's name, which [`super::Volume`] adds. An I/O error converts with
    /// `?`, and stays the source of the error that [`super::Volume::read_slice`] returns.
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem>;
}

impl fmt::Debug for dyn SliceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SliceReader")
    }
}
