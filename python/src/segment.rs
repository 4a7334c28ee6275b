//! Segmentation by networks that were fine-tuned in nnU-Net, as the Python class `Segmenter` uses it.

use std::path::PathBuf;
use std::sync::Arc;

use meddino::jobs::{LabelReport, Observer, SegmentJob, SegmentRecipe, read_of, segment_targets};
use meddino::nnunet::{Folds, Results};
use pyo3::prelude::*;

use crate::arrays::{array, array_of};
use crate::engine::{choice, tuning};
use crate::errors::exception;
use crate::scan::PyScan;
use crate::work;

/// The labels [S, H, W] of a scan, the probabilities [K, S, H, W] if they are asked for, and the number of voxels of
/// each label.
type Labels<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, Vec<u64>, f64);

/// Networks on a device.
#[pyclass(frozen, name = "SegmentJob", module = "meddino._meddino")]
pub struct PySegmentJob {
    job: Arc<SegmentJob>,
    folder: PathBuf,
}

#[pymethods]
impl PySegmentJob {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by their places")]
    fn new(
        py: Python<'_>,
        results: PathBuf,
        folds: Option<Vec<u32>>,
        checkpoint: String,
        device: &str,
        precision: &str,
        step_size: f64,
        mirror: bool,
        probabilities: bool,
    ) -> PyResult<Self> {
        let (backend, tuning) = (choice(device), tuning(precision).map_err(|error| exception(&error))?);
        let recipe = SegmentRecipe { backend, tuning, step_size, mirror, probabilities, ..SegmentRecipe::default() };
        let (folds, folder) = (folds.map_or(Folds::Found, Folds::These), results.clone());
        let job = work::run(py, None, move |events| {
            let results = Results::open(&folder, &folds, &checkpoint)?;
            let warnings = results.folds.iter().flat_map(|(fold, network)| network.model.warnings().iter().map(move |text| (fold, text)));
            warnings.for_each(|(fold, text)| events.warn(&format!("{fold}: {text}")));
            SegmentJob::open(results, recipe, events)
        })?;
        Ok(Self { job: Arc::new(job), folder: results })
    }

    /// Segments a scan into memory. Returns the labels, the probabilities, the voxels of each label, and the millilitres
    /// of a voxel.
    fn compute<'py>(&self, py: Python<'py>, scan: &PyScan, progress: Option<&Bound<'py, PyAny>>) -> PyResult<Labels<'py>> {
        let (job, source) = (self.job.clone(), scan.source.clone());
        let (map, report) = work::run(py, progress, move |events| job.compute(source.scan(events)?, events))?;
        let probabilities = map.probabilities.map(|tensor| array(py, tensor).into_any());
        Ok((array_of(py, &map.shape, map.labels).into_any(), probabilities, report.voxels, report.voxel_ml))
    }

    /// Segments a scan into a file, as the command does. Returns the voxels of each label, and the millilitres of a voxel.
    fn write(
        &self,
        py: Python<'_>,
        scan: &PyScan,
        output: PathBuf,
        overwrite: bool,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Vec<u64>, f64)> {
        let (job, source, folder) = (self.job.clone(), scan.source.clone(), self.folder.clone());
        work::run(py, progress, move |events| {
            let mut targets = segment_targets(&folder, overwrite)?;
            if let Some(path) = source.path() {
                targets.reads("the scan", read_of(path)?);
            }
            job.recipe().files(&output).iter().try_for_each(|target| targets.writes(target))?;
            let LabelReport { voxels, voxel_ml, .. } = job.write(source.scan(events)?, &output, events)?;
            Ok((voxels, voxel_ml))
        })
    }

    /// Returns the name of each label, by its value.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.job.results().dataset.labels.clone()
    }

    /// Returns the names of the outputs of which there are probabilities.
    #[getter]
    fn outputs(&self) -> Vec<String> {
        let dataset = &self.job.results().dataset;
        let regions: Vec<String> = dataset.regions.iter().map(|region| region.name.clone()).collect();
        if regions.is_empty() { dataset.labels.clone() } else { regions }
    }

    /// Returns the name of the device.
    #[getter]
    fn device(&self) -> String {
        self.job.device()
    }
}
