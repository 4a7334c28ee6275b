//! A scan, from files or from an array.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use meddino::ct::{Affine, Geometry, PatientAxes, Volume};
use meddino::jobs::{Case, Input, Observer, Scan, View};
use meddino::{Error, Result, Tensor};
use numpy::{PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{array, values};
use crate::errors::exception;

/// Where the values of a scan are.
#[derive(Clone)]
pub enum Source {
    File { path: PathBuf, series: Option<String> },
    Array { name: String, hu: Arc<[f32]>, shape: [usize; 3], affine: Option<Affine> },
}

impl Source {
    fn case(path: &Path, series: Option<&str>) -> Case {
        let case = Case::new(path);
        match series {
            Some(series) => case.with_series(series),
            None => case,
        }
    }

    /// Opens the scan with its stored axes.
    pub fn volume(&self) -> Result<Volume> {
        match self {
            Self::File { path, series } => {
                let is_phantom = Self::case(path, None).is_phantom();
                if is_phantom { Ok(Volume::phantom()) } else { Volume::open_series(path, series.as_deref()) }
            }
            Self::Array { name, hu, shape, affine: Some(affine) } => Volume::from_array(name, hu.clone(), &Geometry::new(*shape, *affine)?),
            Self::Array { name, hu, shape, affine: None } => Volume::from_hu(name, Tensor::new(*shape, hu.to_vec())),
        }
    }

    /// Opens the scan as the input of a job on features.
    pub fn input(&self, view: View, observer: &dyn Observer) -> Result<Input> {
        match self {
            Self::File { path, series } => Input::open(&Self::case(path, series.as_deref()), view, observer),
            Self::Array { .. } => Input::from_volume(self.volume()?, view),
        }
    }

    /// Opens the scan as the input of a job on segmentation.
    pub fn scan(&self, observer: &dyn Observer) -> Result<Scan> {
        match self {
            Self::File { path, series } => Scan::open(&Self::case(path, series.as_deref()), observer),
            Self::Array { .. } => Scan::from_volume(self.volume()?),
        }
    }

    /// Returns the path of a file or folder.
    pub fn path(&self) -> Option<&Path> {
        if let Self::File { path, .. } = self { Some(path) } else { None }
    }
}

/// An open scan with its stored axes.
#[pyclass(frozen, name = "Scan", module = "meddino._meddino")]
pub struct PyScan {
    pub source: Source,
    volume: Mutex<Volume>,
}

impl PyScan {
    fn of(py: Python<'_>, source: Source) -> PyResult<Self> {
        let volume = py.detach(|| source.volume()).map_err(|error| exception(&error))?;
        Ok(Self { source, volume: Mutex::new(volume) })
    }

    fn with<R>(&self, of: impl FnOnce(&mut Volume) -> R) -> R {
        of(&mut self.volume.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl PyScan {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, series: Option<String>) -> PyResult<Self> {
        Self::of(py, Source::File { path, series })
    }

    /// Copies `hu` [S, H, W]. `affine` maps (column, row, slice) to RAS+ mm.
    #[staticmethod]
    fn from_array(py: Python<'_>, hu: PyReadonlyArrayDyn<'_, f32>, affine: Option<[[f64; 4]; 4]>, name: String) -> PyResult<Self> {
        let affine = affine.map(|matrix| Affine::from_matrix(PatientAxes::Ras, matrix)).transpose().map_err(|error| exception(&error))?;
        let &[s, h, w] = hu.shape() else {
            let problem = format!("expected [S, H, W], found {:?}", hu.shape());
            return Err(exception(&Error::option("hu", problem)));
        };
        let hu = values(hu)?.into();
        Self::of(py, Source::Array { name, hu, shape: [s, h, w], affine })
    }

    #[getter]
    fn name(&self) -> String {
        self.with(|volume| volume.name().to_owned())
    }

    /// Returns [S, H, W].
    #[getter]
    fn shape(&self) -> (usize, usize, usize) {
        self.with(|volume| (volume.slices(), volume.height(), volume.width()))
    }

    /// Returns the rows of the affine from (column, row, slice) to RAS+ mm.
    #[getter]
    fn affine(&self) -> Option<[[f64; 4]; 4]> {
        self.with(|volume| {
            volume.affine().map(|affine| {
                let [x, y, z] = affine.rows;
                [x, y, z, [0.0, 0.0, 0.0, 1.0]]
            })
        })
    }

    /// Returns the distance between slices, rows and columns in mm.
    #[getter]
    fn spacing(&self) -> Option<(f64, f64, f64)> {
        self.with(|volume| volume.geometry().ok()).map(|geometry| geometry.spacing().into())
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.with(|volume| volume.warnings().to_vec())
    }

    /// Reads a slice in HU, [H, W].
    fn read<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let hu = py.detach(|| self.with(|volume| volume.read_slice(index))).map_err(|error| exception(&error))?;
        Ok(array(py, hu))
    }
}
