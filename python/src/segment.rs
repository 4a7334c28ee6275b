//! Segmentation by networks that were fine-tuned in nnU-Net, as the Python class `Segmenter` uses it.

use std::path::PathBuf;
use std::sync::Arc;

use meddino::jobs::{Observer, SegmentJob, SegmentRecipe, label_statistics, read_of, segment_targets};
use meddino::nnunet::{Folds, Results};
use meddino::output::LabelStatistics;
use pyo3::prelude::*;

use crate::arrays::{array, array_of};
use crate::engine::{choice, tuning};
use crate::errors::exception;
use crate::scan::PyScan;
use crate::work;

/// The labels [S, H, W] of a scan, the probabilities [K, S, H, W] if they are asked for, and the table.
type Labels<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, Vec<Row>);

/// The bounding box: begin and end of slices, rows and columns.
type Bounds = Option<((usize, usize), (usize, usize), (usize, usize))>;

/// A label's value, voxels, ml, mean HU, bounding box and its lengths in mm, components, and the voxels and ml of the
/// largest one.
type Row = (u16, u64, f64, Option<f64>, Bounds, (f64, f64, f64), u64, u64, f64);

/// Returns a row with axes in the order of arrays: slices, rows, columns.
fn row(found: &LabelStatistics) -> Row {
    let LabelStatistics { label, voxels, ml, mean_hu, ends, extent_mm: [columns, rows, slices], components, largest, largest_ml } = *found;
    let bounds = ends.map(|[columns, rows, slices]| [slices, rows, columns].map(|(first, last)| (first, last + 1)).into());
    (label, voxels, ml, mean_hu, bounds, (slices, rows, columns), components, largest, largest_ml)
}

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

    /// Segments a scan into memory. Returns the labels, the probabilities, and the table.
    fn compute<'py>(&self, py: Python<'py>, scan: &PyScan, progress: Option<&Bound<'py, PyAny>>) -> PyResult<Labels<'py>> {
        let (job, source) = (self.job.clone(), scan.source.clone());
        let (map, table) = work::run(py, progress, move |events| {
            let (map, _) = job.compute(source.scan(events)?, events)?;
            let table = map.statistics(&mut source.volume()?, &job.results().dataset)?;
            Ok((map, table))
        })?;
        let probabilities = map.probabilities.map(|tensor| array(py, tensor).into_any());
        Ok((array_of(py, &map.shape, map.labels).into_any(), probabilities, table.iter().map(row).collect()))
    }

    /// Segments a scan into a file, as the command does. Returns the table.
    fn write(
        &self,
        py: Python<'_>,
        scan: &PyScan,
        output: PathBuf,
        overwrite: bool,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Row>> {
        let (job, source, folder) = (self.job.clone(), scan.source.clone(), self.folder.clone());
        work::run(py, progress, move |events| {
            let mut targets = segment_targets(&folder, overwrite)?;
            if let Some(path) = source.path() {
                targets.reads("the scan", read_of(path)?);
            }
            job.recipe().files(&output).iter().try_for_each(|target| targets.writes(target))?;
            job.write(source.scan(events)?, &output, events)?;
            let table = label_statistics(&mut source.volume()?, &output, &job.results().dataset)?;
            Ok(table.iter().map(row).collect())
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
