//! A scan as slices in Hounsfield units, read one at a time.

#[cfg(feature = "readers")]
use std::path::Path;

use super::affine::Affine;
#[cfg(feature = "readers")]
use super::dicom;
use super::geometry::Geometry;
#[cfg(feature = "readers")]
use super::nifti::{Nifti, is_nifti};
#[cfg(feature = "readers")]
use super::npy::Npy;
use super::orient::Orient;
use super::phantom;
use super::source::{Slices, StoredScan};
use super::turn::Turn;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// S slices of H x W pixels in Hounsfield units, all of one size.
///
/// Turned with [`Volume::oriented`], a slice stands as it does in DICOM: rows run anterior to posterior, columns from
/// the patient's right to the left, and slice 0 is the most inferior one.
#[derive(Debug)]
pub struct Volume {
    name: String,
    stored: StoredScan,
}

/// Values that are in memory already: [S, H, W].
struct Memory<V> {
    hu: V,
    /// H * W.
    pixels: usize,
}

impl<V: AsRef<[f32]> + Send> Slices for Memory<V> {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, String> {
        Ok(self.hu.as_ref()[index * self.pixels..][..self.pixels].to_vec())
    }
}

impl Volume {
    /// Opens a scan: by what it holds, whatever its name, a DICOM file, or a folder of them with one stack of CT
    /// slices; or by its file's ending, in any case:
    ///
    /// - `.npy` holding [H, W] or [S, H, W] of any numeric dtype, taken to be in HU;
    /// - `.nii`, `.nii.gz` or one of a pair `.hdr` and `.img`: NIfTI-1 of any real dtype, scaled as its header says.
    ///
    /// Only headers are read, and slices stand as they are stored until [`Volume::oriented`]. A compressed NIfTI file
    /// is inflated as slices are asked for in order; when one is asked for again, or backwards, all of it goes into a
    /// temporary file once.
    ///
    /// # Errors
    /// If the file cannot be read, is no scan, or does not hold what its header says.
    #[cfg(feature = "readers")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "npy" => Ok(Self::logged(name, Npy::open(path)?.stored())),
            _ if dicom::is_dicom(path)? => Ok(Self::logged(name, dicom::open(path, None)?)),
            _ if is_nifti(path) => Ok(Self::logged(name, Nifti::open(path)?)),
            "png" | "jpg" | "jpeg" | "bmp" | "gif" | "tif" | "tiff" | "webp" => {
                Err(Error::input(name, "a picture holds shades of gray after somebody's windowing, and no HU; give the scan itself"))
            }
            _ => Err(Error::input(
                name,
                "not a scan that can be read: expected a name ending in .npy (HU), .nii, .nii.gz, .hdr or .img, a DICOM file or a folder of them",
            )),
        }
    }

    /// As [`Volume::open`], of the series `series` where a folder of DICOM files, or a file of many frames,
    /// holds several: its number as [`super::series`] lists it (`2`, or `2.1` for the first of several stacks
    /// of slices in series 2), the end of its UID, or `largest` for the one with most slices.
    ///
    /// # Errors
    /// As [`Volume::open`]; if `series` is given and names none or several, or the scan is no DICOM.
    #[cfg(feature = "readers")]
    pub fn open_series(path: impl AsRef<Path>, series: Option<&str>) -> Result<Self> {
        match series {
            None => Self::open(path),
            Some(_) if dicom::is_dicom(path.as_ref())? => {
                Ok(Self::logged(path.as_ref().display().to_string(), dicom::open(path.as_ref(), series)?))
            }
            Some(series) => Err(Error::option("series", format!("{series} chooses among DICOM series, but the input is no DICOM"))),
        }
    }

    /// The volume that was opened, once the log has its warnings.
    #[cfg(feature = "readers")]
    fn logged(name: String, stored: StoredScan) -> Self {
        stored.warnings.iter().for_each(|warning| log::warn!("{name}: {warning}"));
        Self { name, stored }
    }

    /// Turned as `orient` says; a volume that does not say how it lies is taken to lie as it should. [`Volume::affine`]
    /// turns with it: a voxel stays where it is in the patient. An oblique scan goes to the nearest axes, with a
    /// warning.
    ///
    /// Slices that are stored ones, mirrored or transposed, are read one at a time. Where slices must be cut across
    /// stored ones, the first read writes all of the scan, as f32, into an unnamed temporary file (in the folder that
    /// `TMPDIR` names). Memory does not grow with the number of slices in either case.
    ///
    /// # Errors
    /// If the axes must be known and the file's affine is nonsense, or if a slice would be too large.
    pub fn oriented(self, orient: Orient) -> Result<Self> {
        let known = self.stored.warnings.len();
        let stored = orient.apply(self.stored).map_err(|problem| Error::input(&self.name, problem))?;
        stored.warnings[known..].iter().for_each(|warning| log::warn!("{}: {warning}", self.name));
        Ok(Self { name: self.name, stored })
    }

    /// With its axes in another order: `order` names, for slices, rows and columns, the axis (0 slices, 1 rows, 2
    /// columns) that becomes it.
    ///
    /// What [`Volume::oriented`] says of memory and temporary files holds here, too.
    ///
    /// # Errors
    /// If a slice would be too large.
    ///
    /// # Panics
    /// If `order` is no order of 0, 1 and 2.
    pub fn transposed(self, order: [usize; 3]) -> Result<Self> {
        assert!((0..3).all(|axis| order.contains(&axis)), "{order:?} is no order of the axes");
        let turn = Turn { from: [2, 1, 0].map(|axis| 2 - order[axis]), flip: [false; 3] };
        let stored = turn.apply(self.stored).map_err(|problem| Error::input(&self.name, problem))?;
        Ok(Self { name: self.name, stored })
    }

    /// Where its voxels lie, for files that lie there, too.
    ///
    /// # Errors
    /// If that is not known, or makes no sense.
    pub fn geometry(&self) -> Result<Geometry> {
        Geometry::of(&self.stored).map_err(|problem| Error::input(&self.name, problem))
    }

    /// A scan that is in memory already, and whose voxels lie as `geometry` says; errors call it `name`.
    ///
    /// `hu` holds the values in HU, row-major: S slices of H rows of W columns, of [`Geometry::shape`]. A `Vec<f32>`
    /// is moved and an `Arc<[f32]>` shared; values are copied a slice at a time, when the slice is read.
    ///
    /// # Errors
    /// If `hu` holds another number of values.
    pub fn from_array<V: AsRef<[f32]> + Send + 'static>(name: impl Into<String>, hu: V, geometry: &Geometry) -> Result<Self> {
        let (name, [slices, height, width], len) = (name.into(), geometry.shape(), hu.as_ref().len());
        if len != slices * height * width {
            let problem = format!("expected {slices} x {height} x {width} values (slices, rows, columns), found {len}");
            return Err(Error::input(name, problem));
        }
        Ok(Self::from_slices(name, Memory { hu, pixels: height * width }, geometry))
    }

    /// A scan whose slices are read from a program's own storage when they are asked for, and whose voxels lie as
    /// `geometry` says; errors call it `name`. See [`Slices`].
    pub fn from_slices(name: impl Into<String>, slices: impl Slices + 'static, geometry: &Geometry) -> Self {
        Self { name: name.into(), stored: geometry.stored(Box::new(slices)) }
    }

    /// A scan that is in memory already: [H, W] or [S, H, W] in HU. Where it lies in the patient is not known, so it
    /// can not be segmented; [`Volume::from_array`] takes a place. Errors call it `name`.
    ///
    /// # Errors
    /// If it has another number of axes, or no pixel.
    pub fn from_hu(name: impl Into<String>, hu: Tensor) -> Result<Self> {
        let name = name.into();
        let shape = match *hu.shape() {
            [h, w] => [1, h, w],
            [s, h, w] => [s, h, w],
            _ => return Err(Error::input(name, format!("expected [H, W] or [S, H, W], found {:?}", hu.shape()))),
        };
        if shape.contains(&0) {
            return Err(Error::input(name, format!("{:?} holds no pixel", hu.shape())));
        }
        Ok(Self::in_memory(name, shape, hu.into_data()))
    }

    /// `hu` is [S, H, W], and nothing is known of where it lies.
    fn in_memory(name: String, shape: [usize; 3], hu: Vec<f32>) -> Self {
        Self::of_slices(name, shape, Box::new(Memory { hu, pixels: shape[1] * shape[2] }))
    }

    /// Slices that say nothing of where they lie: [S, H, W].
    pub(super) fn of_slices(name: String, shape: [usize; 3], slices: Box<dyn Slices>) -> Self {
        Self { name, stored: StoredScan::of_slices(shape, slices) }
    }

    /// One built-in synthetic thorax slice, 512 x 512, the same values on every machine: for trying things out without
    /// data.
    pub fn phantom() -> Self {
        Self::in_memory("phantom".into(), [1, phantom::SIDE, phantom::SIDE], phantom::thorax().into_data())
    }

    /// The file as the user named it, or `phantom`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of slices, S.
    pub fn slices(&self) -> usize {
        self.stored.shape[0]
    }

    /// Rows of a slice, H.
    pub fn height(&self) -> usize {
        self.stored.shape[1]
    }

    /// Columns of a slice, W.
    pub fn width(&self) -> usize {
        self.stored.shape[2]
    }

    /// Where the voxels lie in the patient, if the scan says so and it makes sense.
    pub fn affine(&self) -> Option<&Affine> {
        self.stored.affine.as_ref().filter(|affine| affine.is_usable())
    }

    /// The format and what else identifies the scan, as (name, text).
    pub fn about(&self) -> &[(&'static str, String)] {
        &self.stored.about
    }

    /// What may make the result other than expected, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.stored.warnings
    }

    /// Slice `index` in HU: [H, W].
    ///
    /// # Errors
    /// If the slice cannot be read, or a value is NaN or infinite: neither is a radiodensity, and one NaN would spread
    /// over the whole slice.
    ///
    /// # Panics
    /// If there is no such slice.
    pub fn read_slice(&mut self, index: usize) -> Result<Tensor> {
        let [slices, height, width] = self.stored.shape;
        assert!(index < slices, "slice {index} of {slices}");
        let hu = self.stored.slices.read_slice(index).map_err(|problem| Error::input(&self.name, problem))?;
        if hu.len() != height * width {
            let problem = format!("slice {index} came with {} values, expected {height} x {width}", hu.len());
            return Err(Error::input(&self.name, problem));
        }
        if let Some(first) = hu.iter().position(|v| !v.is_finite()) {
            let count = hu.iter().filter(|v| !v.is_finite()).count();
            let problem = format!(
                "slice {index} holds {count} values that are no HU, the first at row {}, column {}: {}; replace them first (air is -1000)",
                first / width,
                first % width,
                hu[first]
            );
            return Err(Error::input(&self.name, problem));
        }
        Ok(Tensor::new([height, width], hu))
    }
}
