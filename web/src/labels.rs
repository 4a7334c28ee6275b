//! A label map of a whole scan, on the grid of its file.

use meddino::Error;
use meddino::ct::{Geometry, Turn};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Result, thrown};

/// The labels of a scan. Slices come as the page shows them, in any order; those that never come are 0.
#[wasm_bindgen]
pub struct LabelMap {
    geometry: Geometry,
    /// From the slices of the file to those that are shown.
    turn: Turn,
    /// [S, H, W] as the file has them.
    labels: Vec<u16>,
}

impl LabelMap {
    /// Makes an empty map of a scan of `geometry`, whose slices are shown after `turn`.
    pub(crate) fn new(geometry: Geometry, turn: Turn) -> Result<Self> {
        let voxels = geometry.shape().iter().try_fold(1_usize, |voxels, &side| voxels.checked_mul(side));
        let mut labels = Vec::new();
        let problem = || thrown(Error::output("labels", "the labels of so many voxels do not fit into memory; label a smaller scan"));
        labels.try_reserve_exact(voxels.ok_or_else(problem)?).map_err(|_| problem())?;
        labels.resize(voxels.unwrap_or(0), 0);
        Ok(Self { geometry, turn, labels })
    }
}

#[wasm_bindgen]
impl LabelMap {
    /// Takes the labels of slice `index`: rows of columns.
    pub fn put(&mut self, index: usize, labels: &[u16]) -> Result<()> {
        let shape = self.geometry.shape();
        let [slices, height, width] = self.turn.of_axes(shape);
        if index >= slices || labels.len() != height * width {
            let problem =
                format!("expected {height} x {width} labels of a slice from 0 to {}, found {} of {index}", slices - 1, labels.len());
            return Err(thrown(Error::option("labels", problem)));
        }
        for (at, &label) in labels.iter().enumerate() {
            let [s, h, w] = self.turn.stored_index([index, at / width, at % width], shape);
            self.labels[(s * shape[1] + h) * shape[2] + w] = label;
        }
        Ok(())
    }

    /// Returns the map as a NIfTI file with the geometry of the scan, not compressed.
    pub fn nifti(&self) -> Vec<u8> {
        let is_wide = self.labels.iter().any(|&label| label > u8::MAX.into());
        let mut file = self.geometry.nifti_labels(if is_wide { 2 } else { 1 });
        if is_wide {
            file.extend(self.labels.iter().flat_map(|label| label.to_le_bytes()));
        } else {
            file.extend(self.labels.iter().map(|&label| label as u8));
        }
        file
    }
}
