//! Heads on frozen features, as `meddino/heads/` uses them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use meddino::fitted::{About, Head, HeadFile};
use meddino::heads::{Fitted, Linear, LinearProbe, Link, Logistic, Neighbours, Optimiser, Rows, Standard, Targets};
use meddino::jobs::{Making, Observer, Vector, Vectors, feature_files, patch_vectors};
use meddino::output::Targets as Files;
use meddino::vit::layers::Layers;
use meddino::{Error, Result, Tensor};
use numpy::{PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{array, array_of, tensor, values};
use crate::errors::exception;
use crate::work::{self, Events};

/// Names of the library's parameters, and their names in Python.
const NAMES: [(&str, &str); 7] = [
    ("features", "X"),
    ("labels", "y"),
    ("c", "C"),
    ("tolerance", "tol"),
    ("k", "n_neighbors"),
    ("rates", "rate"),
    ("batch", "batch_size"),
];

/// Returns the error with the name that its parameter has in Python.
fn named(error: Error) -> Error {
    match error {
        Error::Option { option, problem, .. } => {
            let name = NAMES.iter().find(|(ours, _)| *ours == option).map_or(option.as_str(), |(_, name)| name);
            Error::option(name, problem)
        }
        error => error,
    }
}

/// Vectors whose reader ends the work once Python no longer waits for it. A fit has no other place to ask: it reads the
/// vectors in each of its steps.
struct Watched<'a> {
    vectors: &'a Tensor,
    events: &'a Events,
}

impl Rows for Watched<'_> {
    fn count(&self) -> usize {
        self.vectors.count()
    }

    fn width(&self) -> usize {
        self.vectors.width()
    }

    fn read<'a>(&'a self, first: usize, count: usize, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        if self.events.cancelled().is_some() { Err(Error::Cancelled) } else { self.vectors.read(first, count, buffer) }
    }
}

/// Copies vectors [N, D].
fn vectors(x: PyReadonlyArrayDyn<'_, f32>) -> PyResult<Tensor> {
    if x.ndim() != 2 {
        let problem = format!("expected vectors [N, D], found the shape {:?}; one vector is x[None]", x.shape());
        return Err(exception(&Error::option("X", problem)));
    }
    tensor(x)
}

/// Vectors and the class of each, as Python passes them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Taught<'py> {
    /// [N, D]
    x: PyReadonlyArrayDyn<'py, f32>,
    /// `[N]`, each below `classes`.
    labels: Vec<usize>,
    classes: usize,
    /// `[N]`
    weights: Option<Vec<f64>>,
    balanced: bool,
    standardize: bool,
}

/// What a fit learns from.
struct Lesson {
    x: Tensor,
    labels: Vec<usize>,
    classes: usize,
    weights: Option<Vec<f64>>,
    balanced: bool,
    standardize: bool,
}

impl Taught<'_> {
    fn lesson(self) -> PyResult<Lesson> {
        let Self { x, labels, classes, weights, balanced, standardize } = self;
        Ok(Lesson { x: vectors(x)?, labels, classes, weights, balanced, standardize })
    }
}

impl Lesson {
    fn targets(&self) -> Result<Targets> {
        let Self { labels, classes, .. } = self;
        let targets = match &self.weights {
            None => Targets::of_labels(labels, *classes)?,
            Some(weights) => {
                let refused = |problem: String| Err(Error::option("sample_weight", problem));
                if weights.len() != labels.len() {
                    return refused(format!("expected a weight for each of {} vectors, found {}", labels.len(), weights.len()));
                }
                if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
                    return refused(format!("expected weights from 0 up, found {weight}"));
                }
                let mut shares = vec![0.0; labels.len() * classes];
                labels.iter().zip(weights).enumerate().for_each(|(row, (label, weight))| shares[row * classes + label] = *weight);
                Targets::of_shares(shares, *classes)?
            }
        };
        Ok(if self.balanced { targets.balanced() } else { targets })
    }

    /// Passes vectors, targets and the standardisation to `fit`.
    fn fit<T>(&self, events: &Events, fit: impl FnOnce(&Watched, &Targets, &Standard) -> Result<T>) -> Result<T> {
        let rows = Watched { vectors: &self.x, events };
        meddino::heads::check(&rows)?;
        let standard = if self.standardize { Standard::of(&rows)? } else { Standard::none(rows.width()) };
        fit(&rows, &self.targets()?, &standard)
    }
}

fn link(one_against_rest: bool) -> Link {
    if one_against_rest { Link::OneAgainstRest } else { Link::Softmax }
}

/// An array of f64.
type Doubles<'py> = Bound<'py, PyArrayDyn<f64>>;

/// A fitted head.
#[pyclass(frozen, name = "Head", module = "meddino._meddino")]
pub struct PyHead {
    head: Arc<Head>,
}

impl PyHead {
    fn new(head: Head) -> Self {
        Self { head: Arc::new(head) }
    }

    /// Returns the classifier of features as they are; none of neighbours.
    fn plain(&self) -> Option<Linear> {
        if let Head::Linear(linear) = &*self.head { Some(linear.of_plain_features()) } else { None }
    }
}

#[pymethods]
impl PyHead {
    /// Returns the probability of each class for each of `x` [N, D]: [N, K].
    fn probabilities<'py>(&self, py: Python<'py>, x: PyReadonlyArrayDyn<'py, f32>) -> PyResult<Doubles<'py>> {
        let (head, x) = (self.head.clone(), vectors(x)?);
        let count = x.count();
        let found = work::run(py, None, move |events| head.probabilities(&Watched { vectors: &x, events }).map_err(named))?;
        let classes = self.classes();
        debug_assert_eq!(found.len(), count * classes);
        Ok(array_of(py, &[count, classes], found))
    }

    /// Returns the logits of each of `x` [N, D]: [N, logits]; none of neighbours.
    fn scores<'py>(&self, py: Python<'py>, x: PyReadonlyArrayDyn<'py, f32>) -> PyResult<Option<Doubles<'py>>> {
        let Head::Linear(linear) = &*self.head else { return Ok(None) };
        let (logits, head, x) = (linear.logits(), self.head.clone(), vectors(x)?);
        let count = x.count();
        let found = work::run(py, None, move |events| match &*head {
            Head::Linear(linear) => linear.scores(&Watched { vectors: &x, events }).map_err(named),
            Head::Neighbours { .. } => unreachable!("the head is linear"),
        })?;
        Ok(Some(array_of(py, &[count, logits], found)))
    }

    /// Returns D.
    #[getter]
    fn width(&self) -> usize {
        self.head.width()
    }

    /// Returns K.
    #[getter]
    fn classes(&self) -> usize {
        match &*self.head {
            Head::Linear(linear) => linear.classes,
            Head::Neighbours { bank, .. } => bank.classes(),
        }
    }

    /// Returns weights [logits, D] and intercepts `[logits]` of features as they are; none of neighbours.
    #[getter]
    fn linear<'py>(&self, py: Python<'py>) -> Option<(Doubles<'py>, Doubles<'py>)> {
        let Linear { weight, bias, .. } = self.plain()?;
        Some((array_of(py, &[bias.len(), self.width()], weight), array_of(py, &[bias.len()], bias)))
    }

    /// Returns all that [`head_of_state`] makes the same head of.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (state, width) = (PyDict::new(py), self.width());
        state.set_item("classes", self.classes())?;
        match &*self.head {
            Head::Linear(Linear { link, standard, weight, bias, .. }) => {
                state.set_item("one_against_rest", *link == Link::OneAgainstRest)?;
                for (name, shape, values) in [
                    ("mean", vec![width], &standard.mean),
                    ("scale", vec![width], &standard.scale),
                    ("weight", vec![bias.len(), width], weight),
                    ("bias", vec![bias.len()], bias),
                ] {
                    state.set_item(name, array_of(py, &shape, values.clone()))?;
                }
            }
            Head::Neighbours { bank, k } => {
                state.set_item("k", k)?;
                state.set_item("temperature", bank.temperature())?;
                state.set_item("labels", bank.labels())?;
                state.set_item("bank", array_of(py, &[bank.count(), width], bank.unit_vectors().collect()))?;
            }
        }
        Ok(state)
    }
}

/// What [`PyHead::state`] returns.
#[derive(FromPyObject)]
pub enum State<'py> {
    Linear {
        #[pyo3(item)]
        classes: usize,
        #[pyo3(item)]
        one_against_rest: bool,
        #[pyo3(item)]
        mean: PyReadonlyArrayDyn<'py, f64>,
        #[pyo3(item)]
        scale: PyReadonlyArrayDyn<'py, f64>,
        #[pyo3(item)]
        weight: PyReadonlyArrayDyn<'py, f64>,
        #[pyo3(item)]
        bias: PyReadonlyArrayDyn<'py, f64>,
    },
    Neighbours {
        #[pyo3(item)]
        classes: usize,
        #[pyo3(item)]
        k: usize,
        #[pyo3(item)]
        temperature: f64,
        #[pyo3(item)]
        labels: Vec<usize>,
        #[pyo3(item)]
        bank: PyReadonlyArrayDyn<'py, f64>,
    },
}

/// Makes the head of a state.
#[pyfunction]
pub fn head_of_state(state: State<'_>) -> PyResult<PyHead> {
    let refused = || exception(&Error::option("state", "expected that of a head, found sizes that do not fit each other"));
    match state {
        State::Linear { classes, one_against_rest, mean, scale, weight, bias } => {
            let (logits, width) = (bias.len(), mean.len());
            let is_pair = logits == 1 && classes == 2 && !one_against_rest;
            if scale.len() != width || weight.shape() != [logits, width] || width == 0 || !(logits == classes || is_pair) {
                return Err(refused());
            }
            let standard = Standard { mean: values(mean)?, scale: values(scale)? };
            let (weight, bias) = (values(weight)?, values(bias)?);
            Ok(PyHead::new(Head::Linear(Linear { link: link(one_against_rest), classes, standard, weight, bias })))
        }
        State::Neighbours { classes, k, temperature, labels, bank } => {
            let &[_, width] = bank.shape() else { return Err(refused()) };
            let bank = Neighbours::of_unit_vectors(&values(bank)?, width, &labels, classes, temperature);
            Ok(PyHead::new(Head::Neighbours { bank: bank.map_err(|error| exception(&error))?, k }))
        }
    }
}

/// Fits logistic regression with each of `cs`, ascending for speed. Returns heads, iterations, and whether each converged.
#[pyfunction]
pub fn fit_logistic(
    py: Python<'_>,
    taught: Taught<'_>,
    cs: Vec<f64>,
    one_against_rest: bool,
    tolerance: f64,
    iterations: usize,
) -> PyResult<Vec<(PyHead, usize, bool)>> {
    let lesson = taught.lesson()?;
    let settings = Logistic { link: link(one_against_rest), tolerance, iterations, ..Logistic::default() };
    let fits = work::run(py, None, move |events| {
        lesson.fit(events, |rows, targets, standard| settings.path(rows, targets, standard, &cs)).map_err(named)
    })?;
    let head = |Fitted { linear, iterations, converged, .. }| (PyHead::new(Head::Linear(linear)), iterations, converged);
    Ok(fits.into_iter().map(head).collect())
}

/// How a linear probe is trained, as Python passes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Training {
    rates: Vec<f64>,
    optimizer: String,
    momentum: f64,
    decay: f64,
    batch_size: usize,
    steps: usize,
    warmup: usize,
    seed: u64,
}

impl Training {
    fn probe(self) -> Result<LinearProbe> {
        let Self { rates, optimizer, momentum, decay, batch_size: batch, steps, warmup, seed } = self;
        let optimiser = match optimizer.as_str() {
            "sgd" => Optimiser::Sgd { momentum },
            "adamw" => Optimiser::AdamW { decay },
            _ => return Err(Error::option("optimizer", format!("expected sgd or adamw, found {optimizer}"))),
        };
        Ok(LinearProbe { optimiser, rates, batch, steps, warmup, seed })
    }
}

/// Trains a linear probe with each rate. Returns a head for each.
#[pyfunction]
pub fn fit_probe(py: Python<'_>, taught: Taught<'_>, training: Training) -> PyResult<Vec<PyHead>> {
    let lesson = taught.lesson()?;
    let probe = training.probe().map_err(|error| exception(&error))?;
    let fits = work::run(py, None, move |events| {
        let fits = lesson.fit(events, |rows, targets, standard| probe.fit(rows, targets, standard)).map_err(named)?;
        let is_lost = |fit: &Linear| fit.weight.iter().chain(&fit.bias).any(|v| !v.is_finite());
        match fits.iter().position(is_lost) {
            Some(at) => Err(Error::option("rate", format!("with {}, the weights grow without end; choose a lower rate", probe.rates[at]))),
            None => Ok(fits),
        }
    })?;
    Ok(fits.into_iter().map(|linear| PyHead::new(Head::Linear(linear))).collect())
}

/// Keeps vectors and their classes, of which the `k` nearest vote.
#[pyfunction]
pub fn fit_neighbours(py: Python<'_>, taught: Taught<'_>, k: usize, temperature: f64) -> PyResult<PyHead> {
    let lesson = taught.lesson()?;
    let bank = work::run(py, None, move |events| {
        Neighbours::new(&Watched { vectors: &lesson.x, events }, &lesson.labels, lesson.classes, temperature).map_err(named)
    })?;
    Ok(PyHead::new(Head::Neighbours { bank, k }))
}

/// Returns DINOv3's values of C.
#[pyfunction]
pub fn dinov3_cs() -> Vec<f64> {
    meddino::heads::dinov3_cs()
}

/// Returns DINOv3's learning rates for batches of `batch` vectors.
#[pyfunction]
pub fn dinov3_rates(batch: usize) -> Vec<f64> {
    LinearProbe::scaled_rates(batch)
}

/// Writes a head and what is known of it, JSON, to the file `path`, which must not be one of the feature files `read`.
#[pyfunction]
pub fn save_head(py: Python<'_>, head: &PyHead, about: &str, path: PathBuf, read: Vec<PathBuf>, overwrite: bool) -> PyResult<()> {
    let about = About::from_json(about).map_err(|error| exception(&error))?;
    let file = HeadFile { head: Head::clone(&head.head), about };
    work::run(py, None, move |_| {
        let mut files = Files::new(overwrite);
        files.reads("the features", read);
        files.writes(&path)?;
        file.save(&path)
    })
}

/// Reads a head and what is known of it, JSON.
#[pyfunction]
pub fn open_head(py: Python<'_>, path: PathBuf) -> PyResult<(PyHead, String)> {
    let HeadFile { head, about } = work::run(py, None, move |_| HeadFile::open(&path))?;
    Ok((PyHead::new(head), about.to_json()))
}

/// Checks that the head of which `about`, JSON, is known may be applied to vectors of `kind`.
#[pyfunction]
pub fn check_head(about: &str, kind: BTreeMap<String, String>) -> PyResult<()> {
    About::from_json(about).and_then(move |about| about.check(&kind)).map_err(|error| exception(&named(error)))
}

/// The values [N, D], the case and the slice of each row, the kind of the vectors, and the files that they are from.
type Read<'py> = (Bound<'py, PyArrayDyn<f32>>, Vec<String>, Option<Vec<usize>>, BTreeMap<String, String>, Vec<PathBuf>);

/// Reads the vectors of feature files: `vector` of each slice, pooled by `pool` if it is given, or each patch of `layers`.
#[pyfunction]
pub fn read_vectors(py: Python<'_>, paths: Vec<PathBuf>, vector: String, pool: Option<String>, layers: Vec<usize>) -> PyResult<Read<'_>> {
    let (Vectors { values, rows, kind }, files) = work::run(py, None, move |_| {
        let files = feature_files(&paths)?;
        let vectors = match (vector.as_str(), pool) {
            ("patch", None) => patch_vectors(&files, &Layers::new(layers)?),
            ("patch", Some(_)) => Err(Error::option("pool", "each patch is a row, so none are pooled; leave `pool` out")),
            _ if !layers.is_empty() => Err(Error::option(
                "layers",
                "only the tokens of patches can be those of several blocks; leave it out, or read `vector` patch",
            )),
            (vector, pool) => {
                let vector = vector
                    .parse::<Vector>()
                    .map_err(|_| Error::option("vector", format!("expected cls, mean, cls+mean or patch, found {vector}")))?;
                Vectors::read(&files, Making { vector, pooling: pool.map(|pool| pool.parse()).transpose()? }, None)
            }
        };
        Ok((vectors?, files))
    })?;
    let slices = rows.iter().map(|row| row.slice).collect();
    Ok((array(py, values), rows.into_iter().map(|row| row.case).collect(), slices, kind, files))
}
