//! The devices of this machine, and the distance between two of them.

use std::sync::Arc;

use meddino::verify::{Tolerance, compare};
use meddino::vit::features::Request;
use numpy::PyReadonlyArrayDyn;
use pyo3::prelude::*;

use crate::arrays::tensor;
use crate::engine::PyEngine;
use crate::work;

/// A tap's name, relative L2 distance, largest error, smallest cosine, and whether it is within the tolerance.
type Row = (String, f64, f64, f64, bool);

/// A GPU's index, name, API, kind, driver and standing.
type Gpu = (usize, String, String, String, String, String);

/// Compares every step of two models on images [B, C, H, W], by the tolerance of the first model's precision.
#[pyfunction]
pub fn verify(py: Python<'_>, got: &PyEngine, want: &PyEngine, x: PyReadonlyArrayDyn<'_, f32>) -> PyResult<Vec<Row>> {
    let images = tensor(x)?;
    let engines = [got, want].map(|engine| Arc::clone(&engine.engine));
    work::run(py, None, move |events| {
        let request = Request { prenorm: true, layers: Vec::new(), taps: true };
        let [got, want] = engines;
        let (sizes, other) = (got.model().config(), want.model().config());
        if (sizes.embed_dim, sizes.depth) != (other.embed_dim, other.depth) {
            let problem = format!(
                "expected two models of one size, found {} x {} and {} x {}",
                sizes.embed_dim, sizes.depth, other.embed_dim, other.depth
            );
            return Err(meddino::Error::option("against", problem));
        }
        let tolerance = Tolerance::of(got.backbone().tuning().precision, sizes.rope);
        let [got, want] = [&got, &want].map(|engine| engine.submit(&images, None, &request, events)?.wait());
        let rows = compare(&got?, &want?).into_iter();
        Ok(rows
            .map(|row| {
                let passes = row.passes(tolerance);
                (row.tap, row.relative_l2, row.largest, row.cosine, passes)
            })
            .collect())
    })
}

/// Returns every GPU, in the order in which `auto` tries them; those that it
/// never takes come last.
#[pyfunction]
pub fn devices(py: Python<'_>) -> PyResult<Vec<Gpu>> {
    work::run(py, None, |_| {
        let found = meddino::gpu::devices();
        let row = |ranked: meddino::gpu::Ranked<'_>| {
            let device = ranked.device;
            let kind = device.kind.name().to_owned();
            (device.index, device.name.clone(), device.backend.to_owned(), kind, device.driver.clone(), ranked.standing.to_string())
        };
        Ok(found.ranking().into_iter().map(row).collect())
    })
}
