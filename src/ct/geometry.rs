//! The voxel grid of a scan in the patient.

use super::affine::Affine;
#[cfg(feature = "readers")]
use super::affine::PatientAxes;
#[cfg(feature = "readers")]
use super::grid::Grid;
#[cfg(feature = "readers")]
use super::nifti;
use super::source::{MAX_SLICE_SIDE, MAX_SLICES, StoredScan};
use super::turn::Turn;
use crate::error::{Error, Result};

/// A scan's voxel grid in patient space: its shape and affine. Label maps need nothing else to overlay the scan.
///
/// ```
/// use meddino::ct::{Affine, Geometry, PatientAxes, Volume};
///
/// // From nibabel: `image.affine`, and `image.get_fdata().T`, whose axes are slices, rows, columns.
/// let matrix = [[-0.8, 0.0, 0.0, 100.0], [0.0, -0.8, 0.0, 90.0], [0.0, 0.0, 2.5, -300.0], [0.0, 0.0, 0.0, 1.0]];
/// let geometry = Geometry::new([3, 4, 5], Affine::from_matrix(PatientAxes::Ras, matrix)?)?;
/// assert_eq!(geometry.spacing(), [2.5, 0.8, 0.8]); // slices, rows, columns
/// let scan = Volume::from_array("array", vec![-1000.0; 3 * 4 * 5], &geometry)?;
/// assert_eq!(scan.affine(), Some(geometry.affine()));
/// # Ok::<(), meddino::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Geometry {
    /// [S, H, W]
    shape: [usize; 3],
    affine: Affine,
    /// The distance between slices, rows and columns, in mm.
    spacing: [f64; 3],
    /// The header of the scan's NIfTI file. Label maps repeat it.
    #[cfg(feature = "readers")]
    pub(super) nifti: Option<Box<nifti::Fields>>,
    /// The grid of the scan's MetaImage file. Label maps repeat it.
    #[cfg(feature = "readers")]
    pub(super) grid: Option<Box<Grid>>,
}

impl Geometry {
    /// Creates the geometry of a scan of `shape` [S, H, W] (slices, rows, columns) with the voxel grid `affine`. A side
    /// has at most 2^24 voxels, and a slice at most 2^28.
    ///
    /// # Errors
    /// If a side is 0 or too long, or the affine does not span space.
    pub fn new(shape: [usize; 3], affine: Affine) -> Result<Self> {
        check_shape(shape).map_err(|problem| Error::option("shape", problem))?;
        if !affine.is_usable() {
            let problem = format!("expected finite numbers and three independent directions, found {affine}");
            return Err(Error::option("affine", problem));
        }
        let [column, row, slice] = affine.spacing();
        Ok(Self {
            shape,
            affine,
            spacing: [slice, row, column],
            #[cfg(feature = "readers")]
            nifti: None,
            #[cfg(feature = "readers")]
            grid: None,
        })
    }

    pub(super) fn of(stored: &StoredScan) -> Result<Self, String> {
        let unknown = "does not say how far its voxels are apart, in mm: give the scan as NIfTI, NRRD, MetaImage or DICOM";
        let affine = stored.affine.ok_or(unknown)?;
        #[cfg(feature = "readers")]
        stored.nifti.as_deref().map_or(Ok(()), nifti::check_sizes)?;
        if !affine.is_usable() {
            return Err(format!(
                "its affine makes no sense: {affine}, expected finite numbers and three independent directions; correct its header"
            ));
        }
        check_shape(stored.shape)?;
        #[cfg(feature = "readers")]
        let [column, row, slice] = match (stored.nifti.as_deref(), stored.grid.as_deref()) {
            (Some(header), _) => nifti::spacing(header, &affine),
            (_, Some(grid)) => grid.spacing,
            _ => affine.spacing(),
        };
        #[cfg(not(feature = "readers"))]
        let [column, row, slice] = affine.spacing();
        Ok(Self {
            shape: stored.shape,
            affine,
            spacing: [slice, row, column],
            #[cfg(feature = "readers")]
            nifti: stored.nifti.clone(),
            #[cfg(feature = "readers")]
            grid: stored.grid.clone(),
        })
    }

    /// Returns a scan of this geometry that reads its values from `slices`.
    pub(super) fn stored(&self, slices: Box<dyn super::SliceReader>) -> StoredScan {
        StoredScan {
            affine: Some(self.affine),
            #[cfg(feature = "readers")]
            nifti: self.nifti.clone(),
            #[cfg(feature = "readers")]
            grid: self.grid.clone(),
            ..StoredScan::of_slices(self.shape, slices)
        }
    }

    /// Returns the shape [S, H, W]: slices, rows and columns.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Returns the affine from (column, row, slice) to mm in the patient, RAS+.
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// Returns the sides of the patient to which columns, rows and slices run most nearly, a letter each (`LPS`), as
    /// nibabel's `aff2axcodes` gives them.
    pub fn axes(&self) -> String {
        let turn = Turn::to_ras(&self.affine).back();
        let sides = [["R", "L"], ["A", "P"], ["S", "I"]];
        (0..3).map(|axis| sides[turn.from[axis]][usize::from(turn.flip[axis])]).collect()
    }

    /// Returns the directions of the axes as unit vectors in RAS+: a row for each of the patient's axes, a column for
    /// each stored axis (0 column, 1 row, 2 slice). Those of a MetaImage scan are as stored.
    pub fn directions(&self) -> [[f64; 3]; 3] {
        #[cfg(feature = "readers")]
        if let Some(grid) = &self.grid {
            let [column, row, slice] = grid.directions;
            return PatientAxes::Lps.to_ras(std::array::from_fn(|i| [column[i], row[i], slice[i]]));
        }
        let lengths = self.affine.spacing();
        self.affine.rows.map(|row| [0, 1, 2].map(|axis| row[axis] / lengths[axis]))
    }

    /// Returns the distance between slices, rows and columns, in mm. For a NIfTI file this is its `pixdim`, which
    /// nnU-Net's readers use as well.
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// Returns the lengths of the affine's columns, which are the steps to the next slice, row and column, in mm, as a
    /// header in the scan's format holds them: NIfTI-2 as f64, all else as f32. They differ from [`Geometry::spacing`]
    /// where `pixdim` contradicts the sform.
    pub fn lengths(&self) -> [f64; 3] {
        let [column, row, slice] = self.affine.spacing();
        #[cfg(feature = "readers")]
        let is_f64 = self.nifti.as_deref().is_some_and(|header| header.is_f64);
        #[cfg(not(feature = "readers"))]
        let is_f64 = false;
        [slice, row, column].map(|length| if is_f64 { length } else { f64::from(length as f32) })
    }

    /// Returns whether [`Geometry::spacing`] and [`Geometry::lengths`] disagree: the scan is a NIfTI file whose
    /// `pixdim` contradicts its sform.
    #[cfg(feature = "readers")]
    pub fn has_two_spacings(&self) -> bool {
        self.spacing.into_iter().zip(self.lengths()).any(|(spacing, length)| nifti::disagree(spacing, length))
    }

    /// Returns the volume of a voxel in millilitres, based on [`Geometry::spacing`].
    pub fn voxel_ml(&self) -> f64 {
        let ([slice, row, column], lengths) = (self.spacing, self.affine.spacing());
        // The angles between the axes come from the affine, and the lengths from `spacing`.
        let volume = self.affine.volume().abs() / 1000.0;
        [column, row, slice].iter().zip(lengths).fold(volume, |volume, (spacing, length)| volume * spacing / length)
    }
}

/// Refuses a shape with a side of 0, and one that no reader accepts in any orientation.
fn check_shape(shape: [usize; 3]) -> Result<(), String> {
    let [slices, height, width] = shape;
    if shape.iter().all(|n| (1..=MAX_SLICES).contains(n)) && height * width <= MAX_SLICE_SIDE * MAX_SLICE_SIDE {
        return Ok(());
    }
    Err(format!(
        "expected 1 to {MAX_SLICES} slices, rows and columns, and at most {MAX_SLICE_SIDE} x {MAX_SLICE_SIDE} pixels in a slice, found \
         {slices} x {height} x {width}"
    ))
}
