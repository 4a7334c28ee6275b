//! What every reader of a format gives: a scan as it is stored.

use std::fmt;

use super::affine::Affine;

/// A scan as its file stores it, before it is turned: what a reader returns.
#[derive(Debug)]
pub(super) struct Stored {
    /// [S, H, W]: slices, rows, columns. No side is 0.
    pub shape: [usize; 3],
    /// Where the voxels lie, if the file says so, be it nonsense: [`super::Orient`] tells.
    pub affine: Option<Affine>,
    /// The format and what else identifies the scan, as (name, text) for the metadata of outputs: `("format", "NIfTI-1")`.
    pub about: Vec<(&'static str, String)>,
    /// The header of a NIfTI file, for others that lie where it lies; none once the axes are turned.
    #[cfg(feature = "readers")]
    pub nifti: Option<Box<nifti::NiftiHeader>>,
    /// What may make the result other than expected, a sentence each, without the file's name.
    pub warnings: Vec<String>,
    /// The values.
    pub slices: Box<dyn Slices>,
}

/// Slices in HU, read in any order. A reader streams where its format allows: memory must not grow with the number of slices.
pub(super) trait Slices: fmt::Debug + Send {
    /// The values of slice `index`, row-major, H * W of them. They may be NaN; [`super::Volume`] refuses those.
    ///
    /// # Errors
    /// What went wrong, without the file's name.
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, String>;
}
