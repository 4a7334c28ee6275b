//! Features of scans: batch by batch, into files, and as maps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meddino::jobs::{
    Case, Cohort, Engine, FeatureJob, Input, ModelChoice, Names, Observer, OutputFolder, Outputs, Recipe, Settings as CaseSettings, Shard,
    Slices, TensorSpool, targets,
};
use meddino::maps::{Mesh, Moments, cosine, limits};
use meddino::output::Output;
use meddino::vit::config::Grid;
use meddino::vit::features::Features;
use meddino::{Error, Result, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arrays::{array, array_of};
use crate::engine::PyEngine;
use crate::errors::exception;
use crate::recipe::Settings;
use crate::scan::{PyScan, Source};
use crate::work::{self, Running};

/// A batch of features, and the mean patch of each image if it is asked for.
struct Batch {
    slices: Vec<usize>,
    features: Features,
    means: Option<Tensor>,
}

/// The features of a scan, batch by batch, which are computed one batch ahead.
#[pyclass(frozen, name = "Batches", module = "meddino._meddino")]
pub struct PyBatches {
    running: Running<Batch>,
    /// Number of slices.
    #[pyo3(get)]
    total: usize,
}

#[pymethods]
impl PyBatches {
    /// Returns (slices, tokens by name) of the next batch; None after the last one.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<(Vec<usize>, Bound<'py, PyDict>)>> {
        let Some(Batch { slices, features, means }) = self.running.next(py, None)? else { return Ok(None) };
        let named = PyDict::new(py);
        named.set_item("x_norm", array(py, features.x_norm))?;
        let more = features.x_prenorm.map(|x| ("x_prenorm".to_owned(), x));
        let means = means.map(|x| (Output::PatchMean.to_string(), x));
        let layers = features.layers.into_iter().map(|(n, x)| (Output::Layer(n).to_string(), x));
        more.into_iter().chain(means).chain(layers).try_for_each(|(name, x)| named.set_item(name, array(py, x)))?;
        Ok(Some((slices, named)))
    }
}

impl Batch {
    fn new(slices: Vec<usize>, features: Features, with_means: bool) -> Self {
        let (images, width) = (features.x_norm.shape()[0], features.x_norm.cols());
        let mean = |image| Output::PatchMean.of(&features, image).into_owned();
        let means = with_means.then(|| Tensor::new([images, width], (0..images).flat_map(mean).collect()));
        Self { slices, features, means }
    }
}

/// Opens the input of a job and checks it against the model.
fn open(engine: Arc<Engine>, recipe: Recipe, source: &Source, observer: &dyn Observer) -> Result<(FeatureJob, Input, Vec<usize>)> {
    let input = source.input(recipe.view.clone(), observer)?;
    let slices = recipe.slices.of(input.shape()[0])?;
    Ok((FeatureJob::with_engine(recipe, engine, Some(&input))?, input, slices))
}

/// Passes the patch tokens [P, C] of each slice to `take`, in order.
fn each_slice(
    job: &FeatureJob,
    input: &mut Input,
    observer: &dyn Observer,
    mut take: impl FnMut(Tensor) -> Result<()> + Send,
) -> Result<()> {
    job.stream(input, observer, |features| {
        let patches = features.patches();
        let &[_, p, c] = patches.shape() else { unreachable!("[B, P, C]") };
        patches.data().chunks_exact(p * c).try_for_each(|tokens| take(Tensor::new([p, c], tokens.to_vec())))
    })
}

fn naming(names: &str) -> Result<Names> {
    match names {
        "file" => Ok(Names::File),
        "parent" => Ok(Names::Parent),
        _ => Err(Error::option("names", format!("expected file or parent, found {names}"))),
    }
}

/// Returns the patches of an image that the job computes.
fn grid(job: &FeatureJob, input: &Input) -> Result<Grid> {
    let [_, _, height, width] = input.shape();
    job.engine().model().config().grid(height, width)
}

/// Starts to compute the features of a scan.
#[pyfunction]
pub fn features(py: Python<'_>, engine: &PyEngine, scan: &PyScan, settings: Settings) -> PyResult<PyBatches> {
    let recipe = settings.recipe(engine.choice.clone()).map_err(|error| exception(&error))?;
    let (engine, source, with_means) = (engine.engine.clone(), scan.source.clone(), recipe.outputs.contains(&Output::PatchMean));
    let (job, mut input, slices) = work::run(py, None, move |events| open(engine, recipe, &source, events))?;
    let total = slices.len();
    let running = Running::start(move |events, values| {
        let mut left = &slices[..];
        job.stream(&mut input, events, |features| {
            let (now, later) = left.split_at(features.x_norm.shape()[0]);
            left = later;
            // Nobody receives what is cancelled.
            values.send(Ok(Batch::new(now.to_vec(), features, with_means))).map_err(|_| Error::Cancelled)
        })
    })?;
    Ok(PyBatches { running, total })
}

/// Writes the features of a scan to a file, as the command does. Returns the shape [S, C, H, W] of the images.
#[pyfunction]
pub fn write_features(
    py: Python<'_>,
    engine: &PyEngine,
    scan: &PyScan,
    settings: Settings,
    output: PathBuf,
    overwrite: bool,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<[usize; 4]> {
    let recipe = settings.recipe(engine.choice.clone()).map_err(|error| exception(&error))?;
    let (engine, source) = (engine.engine.clone(), scan.source.clone());
    work::run(py, progress, move |events| {
        let mut targets = targets(overwrite, source.path(), Some(engine.checkpoint()))?;
        recipe.format.files(&output).iter().try_for_each(|target| targets.writes(target))?;
        let (job, mut input, _) = open(engine, recipe, &source, events)?;
        Ok(job.write(&mut input, &output, events)?.images)
    })
}

/// Writes the features of the scan at `path` to a file in `folder` and a line of its manifest, as the command does for
/// one of several scans. Returns the file, and whether it was written, and not finished before.
#[expect(clippy::too_many_arguments, reason = "Python passes them by their places")]
#[pyfunction]
pub fn write_case(
    py: Python<'_>,
    engine: &PyEngine,
    path: PathBuf,
    series: Option<String>,
    settings: Settings,
    folder: PathBuf,
    names: &str,
    overwrite: bool,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<(PathBuf, bool)> {
    let recipe = settings.recipe(engine.choice.clone()).and_then(|recipe| Ok((recipe, naming(names)?)));
    let (recipe, names) = recipe.map_err(|error| exception(&error))?;
    let engine = engine.engine.clone();
    work::run(py, progress, move |events| {
        let cohort = Cohort { names, series, output: "folder", ..Cohort::new([path]) };
        let (format, view) = (recipe.format, recipe.view.clone());
        let files = |target: &Path| format.files(target);
        let outputs = Outputs { folder: &folder, ending: format.ending(), files: &files, kept: |name| name };
        let cases = OutputFolder::open(&cohort, outputs, Shard::ALL, targets(overwrite, None, Some(engine.checkpoint()))?, events)?;
        let settings = CaseSettings { sha256: recipe.settings_sha256(), checkpoint: engine.checkpoint_id() };
        let job = FeatureJob::with_engine(recipe, engine, None)?;
        let work = |case: &Case, target: &Path| job.write(&mut Input::open(case, view.clone(), events)?, target, events);
        let mut done = None;
        let report = cases.run(&settings, events, work, |_, target, report| {
            done = Some((target.to_path_buf(), report.is_some()));
            Ok(())
        })?;
        match (report.failed.into_iter().next(), done) {
            (Some((_, error)), _) => Err(error),
            (None, Some(done)) => Ok(done),
            (None, None) => unreachable!("a path is one case"),
        }
    })
}

/// Returns the scores [S, h, w, 3] of all patches along their three principal components, whitened, and the
/// components: mean [C], directions [3, C], variances [3]; and the least and the greatest score.
#[pyfunction]
pub fn pca<'py>(
    py: Python<'py>,
    engine: &PyEngine,
    scan: &PyScan,
    settings: Settings,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let recipe = settings.recipe(engine.choice.clone()).map_err(|error| exception(&error))?;
    let (engine, source) = (engine.engine.clone(), scan.source.clone());
    let (basis, scores, range) = work::run(py, progress, move |events| {
        let (job, mut input, slices) = open(engine, recipe, &source, events)?;
        let (grid, width) = (grid(&job, &input)?, job.engine().model().config().embed_dim);
        // All tokens of a scan may be too many for the memory.
        let (mut moments, mut spool) = (Moments::new(width), TensorSpool::new(&std::env::temp_dir(), &[grid.patches(), width])?);
        each_slice(&job, &mut input, events, |tokens| {
            moments.add(&tokens);
            spool.push(&tokens)
        })?;
        let (basis, mut scores) = (moments.basis()?, Vec::new());
        spool.each(|tokens| scores.extend(basis.scores(tokens).into_data()))?;
        let scores = Tensor::new([slices.len(), grid.rows, grid.cols, 3], scores);
        let range = limits(&scores);
        Ok((basis, scores, range))
    })?;
    let parts = [basis.mean(), basis.components(), basis.variance()].map(|part| array(py, part.clone()));
    let [mean, components, variance] = parts;
    (array(py, scores), mean, components, variance, range).into_pyobject(py)
}

/// Returns the cosine of each patch's token with that of the patch at pixel (`x`, `y`) of slice `home`, [S, h, w].
#[expect(clippy::too_many_arguments, reason = "Python passes them by their places")]
#[pyfunction]
pub fn similarity<'py>(
    py: Python<'py>,
    engine: &PyEngine,
    scan: &PyScan,
    settings: Settings,
    x: usize,
    y: usize,
    home: usize,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let recipe = settings.recipe(engine.choice.clone()).map_err(|error| exception(&error))?;
    let (engine, source) = (engine.engine.clone(), scan.source.clone());
    let (shape, cosines) = work::run(py, progress, move |events| {
        let at_home = Recipe { slices: Slices::List(vec![home as i64]), ..recipe.clone() };
        let (job, mut input, _) = open(engine.clone(), at_home, &source, events)?;
        let (grid, [_, _, height, width]) = (grid(&job, &input)?, input.shape());
        let [_, _, rows, columns] = input.slices();
        let mesh = Mesh::new(grid, engine.model().config().patch_size, (height, width), (rows, columns));
        let (patch, mut query) = (mesh.patch_of_pixel(x, y)?, Vec::new());
        each_slice(&job, &mut input, events, |tokens| {
            query = tokens.data()[patch * tokens.cols()..][..tokens.cols()].to_vec();
            Ok(())
        })?;
        let (job, mut input, slices) = open(engine, recipe, &source, events)?;
        let mut cosines = Vec::new();
        each_slice(&job, &mut input, events, |tokens| {
            cosines.extend(cosine(&tokens, &query).into_data());
            Ok(())
        })?;
        Ok(([slices.len(), grid.rows, grid.cols], cosines))
    })?;
    Ok(array_of(py, &shape, cosines).into_any())
}

/// Returns the chosen slices of a scan as images for the model, [S, 1, H, W], and the slices' numbers.
#[pyfunction]
pub fn prepare<'py>(py: Python<'py>, scan: &PyScan, settings: Settings) -> PyResult<(Bound<'py, PyAny>, Vec<usize>)> {
    let Recipe { view, slices, .. } = settings.recipe(ModelChoice::default()).map_err(|error| exception(&error))?;
    let source = scan.source.clone();
    let (shape, values, slices) = work::run(py, None, move |events| {
        let mut input = source.input(view, events)?;
        let [count, channels, height, width] = input.shape();
        let slices = slices.of(count)?;
        let shape = [slices.len(), channels, height, width];
        let mut values = Vec::new();
        let refused =
            |problem| Error::option("memory", format!("{shape:?} images do not fit: {problem}; take fewer `slices`, or a smaller `size`"));
        values.try_reserve_exact(shape.iter().product()).map_err(refused)?;
        for slice in &slices {
            if events.cancelled().is_some() {
                return Err(Error::Cancelled);
            }
            values.extend_from_slice(input.batch([*slice])?.data());
        }
        Ok((shape, values, slices))
    })?;
    Ok((array_of(py, &shape, values).into_any(), slices))
}
