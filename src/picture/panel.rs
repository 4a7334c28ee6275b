//! Rendering of one slice, and of the maps that belong to it, at display size.

use super::canvas::{Canvas, blend};
use super::colour::{Rgb, colour, distinct};
use crate::ct::resize;
use crate::maps::Mesh;
use crate::tensor::TensorView;

/// The display settings of a slice and its patches. All panels of one slice have the same size, so that they can be
/// placed side by side.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    mesh: Mesh,
    /// Height of the displayed slice, in pixels of the picture.
    height: usize,
    width: usize,
    smooth: bool,
}

impl Panel {
    /// Creates a panel of the slice of `mesh`, whose longer side takes `side` pixels. Patches are drawn as blocks.
    /// `pixel` is the height and width of a pixel of the slice, in any unit, so that the picture has the patient's
    /// aspect ratio.
    ///
    /// # Panics
    /// If `side` is 0.
    pub fn new(mesh: Mesh, pixel: (f64, f64), side: usize) -> Self {
        assert!(side > 0, "a panel has pixels");
        let (height, width) = (mesh.slice.0 as f64 * pixel.0, mesh.slice.1 as f64 * pixel.1);
        let shown = |length: f64| ((length / height.max(width) * side as f64).round() as usize).clamp(1, side);
        Self { mesh, height: shown(height), width: shown(width), smooth: false }
    }

    /// Returns the same panel, with values interpolated between the patches' centres if `smooth`.
    #[must_use]
    pub fn smooth(self, smooth: bool) -> Self {
        Self { smooth, ..self }
    }

    /// Returns a black canvas of this panel's size.
    pub fn blank(&self) -> Canvas {
        Canvas::new(self.height, self.width, [0; 3])
    }

    /// Draws the slice from its shades [H, W], 0 (black) to 1 (white).
    pub fn ct<'a>(&self, shades: impl Into<TensorView<'a>>) -> Canvas {
        let shades = resize(shades, self.height, self.width);
        let mut canvas = self.blank();
        for (i, shade) in shades.data().iter().enumerate() {
            *canvas.at(i % self.width, i / self.width) = [(shade.clamp(0.0, 1.0) * 255.0).round() as u8; 3];
        }
        canvas
    }

    /// Draws `scores` [P, 3] over `canvas` with opacity `alpha` (0 to 1). Red, green and blue are the three components:
    /// 0 at the lower of `limits`, full at the upper.
    ///
    /// Pixels that no patch covers are left unchanged.
    ///
    /// # Panics
    /// If the number of scores does not match the patches, or the canvas is not of this panel's size. [`Panel::heat`]
    /// panics in the same cases.
    pub fn components<'a>(&self, canvas: &mut Canvas, alpha: f32, scores: impl Into<TensorView<'a>>, limits: (f32, f32)) {
        self.paint(canvas, alpha, scores.into(), |[r, g, b]: [f32; 3]| Some([r, g, b].map(|v| (share(v, limits) * 255.0).round() as u8)));
    }

    /// Draws `values` `[P]` over `canvas` with opacity `alpha` (0 to 1). The colours are those of [`colour`], from the
    /// lower to the upper of `limits`.
    pub fn heat<'a>(&self, canvas: &mut Canvas, alpha: f32, values: impl Into<TensorView<'a>>, limits: (f32, f32)) {
        self.paint(canvas, alpha, values.into(), |[v]: [f32; 1]| Some(colour(share(v, limits))));
    }

    /// Marks pixel (`x`, `y`) of the slice on `canvas`.
    pub fn mark(&self, canvas: &mut Canvas, x: usize, y: usize) {
        let (height, width) = self.mesh.slice;
        let at = |i: usize, shown: usize, slice: usize| (i as f32 + 0.5) * shown as f32 / slice as f32;
        let side = self.height.max(self.width) as f32;
        canvas.ring((at(x, self.width, width), at(y, self.height, height)), (side / 64.0).max(4.0), (side / 256.0).max(1.0));
    }

    /// Draws `labels` `[P]` over `canvas` with opacity `alpha` (0 to 1), each in its own colour from [`distinct`].
    /// Label 0 is not drawn.
    pub fn labels<'a>(&self, canvas: &mut Canvas, alpha: f32, labels: impl Into<TensorView<'a>>) {
        let sharp = self.smooth(false);
        sharp.paint(canvas, alpha, labels.into(), |[label]: [f32; 1]| (label as usize).checked_sub(1).map(distinct));
    }

    /// Colours every pixel that a patch covers. `of` maps the patch's K values to a colour, or to none for no change.
    /// `values` is [P, K] or, for K = 1, `[P]`.
    fn paint<const K: usize>(&self, canvas: &mut Canvas, alpha: f32, values: TensorView, of: impl Fn([f32; K]) -> Option<Rgb>) {
        assert_eq!(values.data().len(), self.mesh.grid.patches() * K, "{K} values a patch");
        assert_eq!((canvas.height(), canvas.width()), (self.height, self.width), "a canvas of this panel");
        let patch = |p: usize| -> [f32; K] { values.data()[p * K..][..K].try_into().expect("K values") };
        let (height, width) = self.mesh.slice;
        for y in 0..self.height {
            for x in 0..self.width {
                let place = |i: usize, shown: usize, slice: usize| (i as f64 + 0.5) * slice as f64 / shown as f64;
                let (px, py) = (place(x, self.width, width), place(y, self.height, height));
                let found = if self.smooth {
                    let mix =
                        |around: [(usize, f32); 4]| std::array::from_fn(|k| around.iter().map(|&(p, weight)| patch(p)[k] * weight).sum());
                    self.mesh.around(px, py).map(mix)
                } else {
                    self.mesh.patch_at(px, py).map(patch)
                };
                if let Some(rgb) = found.and_then(&of) {
                    let pixel = canvas.at(x, y);
                    *pixel = blend(*pixel, rgb, alpha);
                }
            }
        }
    }
}

/// Returns the position of `v` between `lo` and `hi`, 0 to 1; 0.5 if the two are equal.
fn share(v: f32, (lo, hi): (f32, f32)) -> f32 {
    if hi > lo { ((v - lo) / (hi - lo)).clamp(0.0, 1.0) } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;
    use crate::vit::config::Grid;

    const SQUARE: (f64, f64) = (1.0, 1.0);

    /// Returns a panel for a slice of 40 x 36 at its own size: 2 x 2 patches. The model does not see 8 rows and 4
    /// columns.
    fn panel(side: usize) -> Panel {
        Panel::new(Mesh::new(Grid { rows: 2, cols: 2 }, 16, (40, 36), (40, 36)), SQUARE, side)
    }

    #[test]
    fn each_patch_is_a_block_in_its_colour() {
        let scores = Tensor::new([4, 3], vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let mut canvas = Canvas::new(80, 72, [7; 3]);
        panel(80).components(&mut canvas, 1.0, &scores, (0.0, 1.0));
        for y in 0..80 {
            for x in 0..72 {
                let want = match (x / 32, y / 32) {
                    (0, 0) => [0, 0, 0],
                    (1, 0) => [255, 0, 0],
                    (0, 1) => [0, 255, 0],
                    (1, 1) => [0, 0, 255],
                    _ => [7; 3],
                };
                assert_eq!(*canvas.at(x, y), want, "{x},{y}");
            }
        }
    }

    #[test]
    fn a_map_of_one_value_is_the_middle_colour_and_blends() {
        let mut canvas = Canvas::new(40, 36, [0; 3]);
        panel(40).heat(&mut canvas, 1.0, &Tensor::new([4], vec![3.0; 4]), (3.0, 3.0));
        assert_eq!(*canvas.at(0, 0), colour(0.5));
        panel(40).heat(&mut canvas, 0.5, &Tensor::new([4], vec![0.0, 0.0, 0.0, 1.0]), (0.0, 1.0));
        assert_eq!(*canvas.at(20, 20), blend(colour(0.5), colour(1.0), 0.5));
        assert_eq!(*canvas.at(35, 39), [0; 3]);
    }

    #[test]
    fn a_slice_has_its_shape_in_the_patient() {
        // 40 x 36 pixels, 3 mm high and 1.5 mm wide: 120 x 54 mm.
        let mesh = Mesh::new(Grid { rows: 2, cols: 2 }, 16, (40, 36), (40, 36));
        let panel = Panel::new(mesh, (3.0, 1.5), 120);
        let mut canvas = panel.blank();
        assert_eq!((canvas.height(), canvas.width()), (120, 54));
        panel.heat(&mut canvas, 1.0, &Tensor::new([4], vec![0.0, 0.2, 0.4, 1.0]), (0.0, 1.0));
        // Patches are 48 x 24, and end at row 96 and column 48.
        for (x, y, want) in [(23, 47, colour(0.0)), (24, 47, colour(0.2)), (23, 48, colour(0.4)), (47, 95, colour(1.0)), (48, 95, [0; 3])] {
            assert_eq!(*canvas.at(x, y), want, "{x},{y}");
        }
        // The mark of a pixel in the middle of the slice is in the middle of the picture.
        panel.mark(&mut canvas, 17, 19);
        assert_eq!(*canvas.at(26, 58), [255; 3]);
        let thin = Panel::new(mesh, (1e-9, 1.0), 100).blank();
        assert_eq!((thin.height(), thin.width()), (1, 100));
    }

    #[test]
    fn labels_have_their_own_colours_and_the_background_has_none() {
        let mut canvas = Canvas::new(40, 36, [9; 3]);
        panel(40).smooth(true).labels(&mut canvas, 1.0, &Tensor::new([4], vec![0.0, 1.0, 2.0, 1.0]));
        let at = |x: usize, y: usize| *canvas.clone().at(x, y);
        assert_eq!([at(3, 3), at(20, 3), at(3, 20), at(20, 20)], [[9; 3], distinct(0), distinct(1), distinct(0)]);
    }

    #[test]
    fn smooth_panels_pass_from_patch_to_patch() {
        let mut canvas = Canvas::new(40, 36, [0; 3]);
        let scores = Tensor::new([4, 3], vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        panel(40).smooth(true).components(&mut canvas, 1.0, &scores, (0.0, 1.0));
        let row: Vec<u8> = (0..32).map(|x| canvas.at(x, 5)[0]).collect();
        assert!(row.is_sorted() && row[0] == 0 && row[31] == 255 && row[15] > 100 && row[16] < 155, "{row:?}");
    }
}
