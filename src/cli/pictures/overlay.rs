//! Labels drawn over the CT, in radiological orientation.

use std::path::Path;

use meddino::ct::{Orient, Volume};
use meddino::jobs::name_text;
use meddino::maps::Mesh;
use meddino::picture::{Gray, Panel, beside, captioned, key, write_png};
use meddino::vit::config::Grid;
use meddino::{Result, Tensor};
use serde_json::json;

/// Opacity of a label over the CT.
const ALPHA: f32 = 0.5;

/// Least and greatest length in pixels of a slice's longer side.
const SIDES: (usize, usize) = (448, 1024);

/// A scan and its label map, which share one voxel grid.
pub struct Overlay<'a> {
    pub scan: &'a Path,
    pub series: Option<&'a str>,
    pub labels: &'a Path,
    /// The names of the labels, indexed by label.
    pub names: &'a [String],
}

impl Overlay<'_> {
    /// Draws the axial slice with the most labelled voxels, or the middle slice if no voxel is labelled, to `target`.
    pub fn write(&self, target: &Path, gray: Gray) -> Result<()> {
        let (index, labels) = self.fullest()?;
        let mut scan = Volume::open_series(self.scan, self.series)?.oriented(Orient::Lps)?;
        let (height, width) = (scan.height(), scan.width());
        let mesh = Mesh::new(Grid { rows: height, cols: width }, 1, (height, width), (height, width));
        let pixel = scan.affine().map_or((1.0, 1.0), |affine| {
            let [column, row, _] = affine.spacing();
            (row, column)
        });
        let panel = Panel::new(mesh, pixel, height.max(width).clamp(SIDES.0, SIDES.1));
        let ct = panel.ct(&gray.shades(&scan.read_slice(index)?));
        let mut over = ct.clone();
        panel.labels(&mut over, ALPHA, &labels);
        let shown: Vec<usize> = (1..self.names.len()).filter(|label| labels.data().iter().any(|v| *v as usize == *label)).collect();
        let key = key(&shown, ct.height());
        let picture = captioned(&beside(&[ct, over, key]), index);
        let names: Vec<_> = shown.iter().map(|label| json!({"label": label, "name": self.names[*label]})).collect();
        let text = [
            ("Title", "labels over CT".to_string()),
            ("Software", format!("meddino {}", env!("CARGO_PKG_VERSION"))),
            ("input", name_text(self.scan)),
            ("slices", json!([index]).to_string()),
            ("labels", json!(names).to_string()),
        ];
        write_png(&picture, target, &text)
    }

    /// Returns the index of the slice with the most labelled voxels, and its labels `[H * W]`.
    fn fullest(&self) -> Result<(usize, Tensor)> {
        let mut volume = Volume::open(self.labels)?.oriented(Orient::Lps)?;
        let mut most = (volume.slices() / 2, 0);
        for index in 0..volume.slices() {
            let count = volume.read_slice(index)?.data().iter().filter(|label| **label > 0.0).count();
            if count > most.1 {
                most = (index, count);
            }
        }
        let labels = volume.read_slice(most.0)?;
        let count = labels.data().len();
        Ok((most.0, labels.reshaped([count])))
    }
}
