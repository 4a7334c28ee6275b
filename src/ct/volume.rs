//! A scan as slices in Hounsfield units, read one at a time.

#[cfg(feature = "readers")]
use std::path::Path;
#[cfg(feature = "readers")]
use std::sync::Arc;

use super::affine::Affine;
#[cfg(feature = "readers")]
use super::dicom;
#[cfg(feature = "readers")]
use super::dicom_images::DicomImages;
use super::geometry::Geometry;
#[cfg(feature = "readers")]
use super::npy::Npy;
use super::orient::Orient;
use super::phantom;
use super::source::{SliceReader, StoredScan};
use super::turn::Turn;
#[cfg(feature = "readers")]
use super::{metaimage, nifti, nrrd};
use crate::count::values_in;
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;

/// S slices of H x W pixels in Hounsfield units, all of one size.
///
/// After [`Volume::oriented`], slices are oriented as in DICOM: rows run from anterior to posterior, columns from the
/// patient's right to the left, and slice 0 is the most inferior one.
#[derive(Debug)]
pub struct Volume {
    name: String,
    stored: StoredScan,
}

/// Values in memory: [S, H, W].
struct Memory<V> {
    hu: V,
    /// H * W.
    pixels: usize,
}

impl<V: AsRef<[f32]> + Send> SliceReader for Memory<V> {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        Ok(self.hu.as_ref()[index * self.pixels..][..self.pixels].to_vec())
    }
}

impl Volume {
    /// Opens a scan. DICOM is recognised by its content, whatever its name: a file, or a folder of files with one stack
    /// of CT slices. Other formats are recognised by the file's extension, in any case:
    ///
    /// - `.npy` with [H, W] or [S, H, W] of any numeric dtype, assumed to be in HU;
    /// - `.nii`, `.nii.gz` or one of a pair `.hdr` and `.img`: NIfTI-1 or NIfTI-2 of any real dtype, scaled as its header says;
    /// - `.nrrd` or `.nhdr` (NRRD, raw or gzip), `.mha` or `.mhd` (MetaImage, compressed or not), of any real dtype.
    ///
    /// Only headers are read, and slices keep their stored orientation until [`Volume::oriented`]. A compressed NIfTI
    /// file is decompressed while slices are requested in order. When the same or an earlier slice is requested, the
    /// whole file is decompressed once into a temporary file.
    ///
    /// # Errors
    /// If the file cannot be read, is not a scan, or does not match its header.
    #[cfg(feature = "readers")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "npy" => Ok(Self::logged(name, Npy::open(path)?.stored())),
            _ if dicom::is_dicom(path)? => Ok(Self::logged(name, dicom::open(path, None)?)),
            _ if nifti::is_nifti(path) => Ok(Self::logged(name, nifti::open(path)?)),
            _ if nrrd::is_nrrd(path) => Ok(Self::logged(name, nrrd::open(path)?)),
            _ if metaimage::is_metaimage(path) => Ok(Self::logged(name, metaimage::open(path)?)),
            "png" | "jpg" | "jpeg" | "bmp" | "gif" | "tif" | "tiff" | "webp" => {
                Err(Error::input(name, "a picture holds shades of gray after somebody's windowing, and no HU; give the scan itself"))
            }
            _ => Err(Error::input(
                name,
                "not a scan that can be read: expected a name ending in .npy (HU), .nii, .nii.gz, .hdr, .img, .nrrd, .nhdr, .mha or .mhd, a DICOM file or a folder of them",
            )),
        }
    }

    /// As [`Volume::open`], but selects one series of a DICOM folder, or of a multi-frame file, that holds several.
    /// `series` is the number that [`super::series`] lists (`2`, or `2.1` for the first of several stacks of slices in
    /// series 2), the end of the series' UID, or `largest` for the series with the most slices.
    ///
    /// # Errors
    /// As [`Volume::open`]. Also if `series` is given and matches none or several, or the scan is not DICOM.
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

    /// Returns the scan under another name.
    #[cfg(feature = "readers")]
    pub(super) fn renamed(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// Returns the scan with its slices wrapped.
    #[cfg(feature = "readers")]
    pub(super) fn with_slices(mut self, wrap: impl FnOnce(Box<dyn SliceReader>) -> Box<dyn SliceReader>) -> Self {
        self.stored.slices = wrap(self.stored.slices);
        self
    }

    /// Logs the warnings of `stored`, and wraps it as a volume.
    #[cfg(feature = "readers")]
    fn logged(name: String, stored: StoredScan) -> Self {
        stored.warnings.iter().for_each(|warning| log::warn!("{name}: {warning}"));
        Self { name, stored }
    }

    /// Turns the volume as `orient` says. A volume without an affine is assumed to be in that orientation already.
    /// [`Volume::affine`] is adapted, so that each voxel keeps its position in the patient. An oblique scan is turned
    /// to the nearest axes, with a warning.
    ///
    /// If the new slices are stored slices, mirrored or transposed, they are read one at a time. If they cut across the
    /// stored slices, the first read writes the whole scan, as f32, into an unnamed temporary file (in the folder that
    /// `TMPDIR` names). In both cases memory use does not grow with the number of slices.
    ///
    /// # Errors
    /// If `orient` needs the affine and the file's affine is invalid, or if a slice would be too large.
    pub fn oriented(self, orient: Orient) -> Result<Self> {
        let known = self.stored.warnings.len();
        let stored = orient.apply(self.stored).map_err(|problem| Error::input(&self.name, problem))?;
        stored.warnings[known..].iter().for_each(|warning| log::warn!("{}: {warning}", self.name));
        Ok(Self { name: self.name, stored })
    }

    /// Permutes and reverses the volume's axes.
    ///
    /// Memory and temporary files are used as described for [`Volume::oriented`].
    ///
    /// # Errors
    /// If a slice would be too large.
    pub fn turned(self, turn: Turn) -> Result<Self> {
        let stored = turn.apply(self.stored).map_err(|problem| Error::input(&self.name, problem))?;
        Ok(Self { name: self.name, stored })
    }

    /// Returns the voxel grid, for output files on the same grid.
    ///
    /// # Errors
    /// If the scan has no affine, or an invalid one.
    pub fn geometry(&self) -> Result<Geometry> {
        Geometry::of(&self.stored).map_err(|problem| Error::input(&self.name, problem))
    }

    /// Creates a scan from values in memory, on the voxel grid `geometry`. Errors call the scan `name`.
    ///
    /// `hu` holds the values in HU, row-major: S slices of H rows of W columns, as in [`Geometry::shape`]. A `Vec<f32>`
    /// is moved and an `Arc<[f32]>` shared. Values are copied when a slice is read, one slice at a time.
    ///
    /// # Errors
    /// If `hu` does not have S * H * W values.
    pub fn from_array<V: AsRef<[f32]> + Send + 'static>(name: impl Into<String>, hu: V, geometry: &Geometry) -> Result<Self> {
        let (name, [slices, height, width], len) = (name.into(), geometry.shape(), hu.as_ref().len());
        if values_in(&geometry.shape()) != Some(len) {
            let problem = format!("expected {slices} x {height} x {width} values (slices, rows, columns), found {len}");
            return Err(Error::input(name, problem));
        }
        Ok(Self::from_slices(name, Memory { hu, pixels: height * width }, geometry))
    }

    /// Creates a scan on the voxel grid `geometry` whose slices are read on request from a program's own storage.
    /// Errors call the scan `name`. See [`SliceReader`].
    pub fn from_slices(name: impl Into<String>, slices: impl SliceReader + 'static, geometry: &Geometry) -> Self {
        Self { name: name.into(), stored: geometry.stored(Box::new(slices)) }
    }

    /// Creates a scan without an affine from values in memory: [H, W] or [S, H, W] in HU. Such a scan cannot be
    /// segmented; [`Volume::from_array`] takes a voxel grid. Errors call the scan `name`.
    ///
    /// # Errors
    /// If `hu` has neither two nor three axes, or no pixel.
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

    /// Creates a scan without an affine from `hu` [S, H, W].
    fn in_memory(name: String, shape: [usize; 3], hu: Vec<f32>) -> Self {
        Self::of_slices(name, shape, Box::new(Memory { hu, pixels: shape[1] * shape[2] }))
    }

    /// Creates a scan of `shape` [S, H, W] without an affine, which reads its values from `slices`.
    pub(super) fn of_slices(name: String, shape: [usize; 3], slices: Box<dyn SliceReader>) -> Self {
        Self { name, stored: StoredScan::of_slices(shape, slices) }
    }

    /// Returns the built-in synthetic thorax slice, 512 x 512, with the same values on every machine. It serves to try
    /// things out without data.
    pub fn phantom() -> Self {
        Self::in_memory("phantom".into(), [1, phantom::SIDE, phantom::SIDE], phantom::thorax().into_data())
    }

    /// Returns the scan's name: the path as the user gave it, `phantom`, or the `name` given for a scan from memory or
    /// a program's storage.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of slices, S.
    pub fn slices(&self) -> usize {
        self.stored.shape[0]
    }

    /// Returns the number of rows of a slice, H.
    pub fn height(&self) -> usize {
        self.stored.shape[1]
    }

    /// Returns the number of columns of a slice, W.
    pub fn width(&self) -> usize {
        self.stored.shape[2]
    }

    /// Returns the affine from voxels to the patient, if the scan has a valid one.
    pub fn affine(&self) -> Option<&Affine> {
        self.stored.affine.as_ref().filter(|affine| affine.is_usable())
    }

    /// Returns the format and other identifying facts, as (name, text).
    pub fn about(&self) -> &[(&'static str, String)] {
        &self.stored.about
    }

    /// Returns the DICOM images of the slices, if the scan is DICOM with known places and its axes are as stored.
    #[cfg(feature = "readers")]
    pub fn dicom(&self) -> Option<&Arc<DicomImages>> {
        self.stored.dicom.as_ref()
    }

    /// Returns warnings about properties that may affect the result, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.stored.warnings
    }

    /// Reads slice `index` in HU: [H, W].
    ///
    /// # Errors
    /// If the slice cannot be read, or a value is NaN or infinite. Neither is a radiodensity, and one NaN would spread
    /// over the whole slice.
    ///
    /// # Panics
    /// If `index` is not below S.
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
