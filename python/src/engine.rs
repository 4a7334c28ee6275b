//! A loaded model, as the Python class `Model` uses it.

use std::path::PathBuf;
use std::sync::Arc;

use meddino::backbone::{Choice, Precision, Tuning};
use meddino::jobs::{Engine, ModelChoice};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;
use meddino::{Error, Result};
use numpy::PyReadonlyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{array, tensor, values};
use crate::errors::exception;
use crate::work::{self, Running};

/// Parses the name of a device: `auto`, `cpu`, `gpu`, or a number or a part of the name of a GPU.
pub fn choice(device: &str) -> Choice {
    match device {
        "auto" => Choice::Auto,
        "cpu" => Choice::Cpu,
        "gpu" => Choice::Gpu(meddino::gpu::Selection::default()),
        _ => Choice::Gpu(device.parse().unwrap_or_else(|never| match never {})),
    }
}

/// Parses the name of a precision.
///
/// # Errors
/// If there is no such precision.
pub fn tuning(precision: &str) -> Result<Tuning> {
    let precision = match precision {
        "f32" => Precision::F32,
        "f16" => Precision::F16,
        "bf16" => Precision::Bf16,
        _ => return Err(Error::option("precision", format!("expected f32, f16 or bf16, found {precision}"))),
    };
    Ok(Tuning { precision, tier: None })
}

fn rope(name: &str) -> Result<Option<RopePrecision>> {
    match name {
        "auto" => Ok(None),
        "bf16" => Ok(Some(RopePrecision::Bf16)),
        "f32" => Ok(Some(RopePrecision::F32)),
        _ => Err(Error::option("rope", format!("expected auto, bf16 or f32, found {name}"))),
    }
}

/// Weights on a device.
#[pyclass(frozen, name = "Engine", module = "meddino._meddino")]
pub struct PyEngine {
    pub engine: Arc<Engine>,
    /// What the engine was loaded by.
    pub choice: ModelChoice,
}

#[pymethods]
impl PyEngine {
    #[new]
    fn new(
        py: Python<'_>,
        checkpoint: Option<PathBuf>,
        device: &str,
        precision: &str,
        rope: &str,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (tuning, rope) = tuning(precision).and_then(|tuning| Ok((tuning, self::rope(rope)?))).map_err(|error| exception(&error))?;
        let choice = ModelChoice { checkpoint, rope, backend: choice(device), tuning };
        let model = choice.clone();
        let loading = Running::start_one(move |events| model.open(events)?.load(events))?;
        // Every call of a model needs NumPy, whose import takes as long as a good part of the load. A bar would stand
        // still meanwhile.
        if progress.is_none() {
            py.import("numpy")?;
        }
        let engine = loading.value(py, progress)?;
        Ok(Self { engine: Arc::new(engine), choice })
    }

    /// Runs normalised images [B, C, H, W] through the model. Returns all tokens [B, T, C] by their names: `x_norm`,
    /// `x_prenorm`, `layers.N` and `blocks.N` (before the norm).
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArrayDyn<'py, f32>,
        masks: Option<PyReadonlyArrayDyn<'py, bool>>,
        layers: Vec<usize>,
        prenorm: bool,
        blocks: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (images, masks) = (tensor(x)?, masks.map(values).transpose()?);
        let (engine, request) = (self.engine.clone(), Request { prenorm, layers, taps: blocks });
        let features = work::run(py, None, move |events| engine.submit(&images, masks.as_deref(), &request, events)?.wait())?;
        let named = PyDict::new(py);
        named.set_item("x_norm", array(py, features.x_norm))?;
        if let Some(x_prenorm) = features.x_prenorm {
            named.set_item("x_prenorm", array(py, x_prenorm))?;
        }
        features.layers.into_iter().try_for_each(|(n, layer)| named.set_item(format!("layers.{n}"), array(py, layer)))?;
        features.taps.into_iter().try_for_each(|(name, tap)| named.set_item(name, array(py, tap)))?;
        Ok(named)
    }

    /// Returns the model's sizes and precisions as JSON.
    #[getter]
    fn config(&self) -> String {
        self.engine.model().config().to_json().to_string()
    }

    /// Returns the name of the device.
    #[getter]
    fn device(&self) -> String {
        self.engine.backbone().device()
    }

    /// Returns the SHA-256 of the weights, or the name of seeded weights.
    #[getter]
    fn checkpoint_id(&self) -> String {
        self.engine.checkpoint_id()
    }
}
