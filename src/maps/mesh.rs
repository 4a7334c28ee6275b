//! The position of the patch grid on the slice that its features were computed from.

use crate::error::{Error, Result};
use crate::vit::config::Grid;

/// The patch grid over a slice. The slice is resized to the image, and the patches cover the top left part of the
/// image.
///
/// A position on the slice is (x, y) in pixels to the right and down from its top left corner. Pixel 0 extends from 0
/// to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mesh {
    /// The rows and columns of patches.
    pub grid: Grid,
    /// Height and width of the slice in pixels.
    pub slice: (usize, usize),
    /// Height and width of one patch in pixels of the slice.
    patch: (f64, f64),
}

impl Mesh {
    /// Creates the mesh of patches of `patch_size` pixels of the image [`image.0`, `image.1`]. The image was resized
    /// from a slice of `slice` (height, width).
    pub fn new(grid: Grid, patch_size: usize, image: (usize, usize), slice: (usize, usize)) -> Self {
        let side = |slice: usize, image: usize| (patch_size * slice) as f64 / image as f64;
        Self { grid, slice, patch: (side(slice.0, image.0), side(slice.1, image.1)) }
    }

    /// Returns the height and width of the area covered by the patches, from the top left corner, in pixels of the
    /// slice.
    pub fn covered(&self) -> (f64, f64) {
        (self.patch.0 * self.grid.rows as f64, self.patch.1 * self.grid.cols as f64)
    }

    /// Returns the index (row-major) of the patch at a position. Returns `None` beyond the last whole patch, which the
    /// model did not see.
    pub fn patch_at(&self, x: f64, y: f64) -> Option<usize> {
        let (row, col) = ((y / self.patch.0).floor(), (x / self.patch.1).floor());
        let inside = row >= 0.0 && col >= 0.0 && row < self.grid.rows as f64 && col < self.grid.cols as f64;
        inside.then(|| row as usize * self.grid.cols + col as usize)
    }

    /// Returns the four patches whose centres surround a position, and their weights in bilinear interpolation. Beyond
    /// the outermost centres the outermost patches' values are repeated. Returns `None` as [`Mesh::patch_at`] does.
    pub fn around(&self, x: f64, y: f64) -> Option<[(usize, f32); 4]> {
        self.patch_at(x, y)?;
        let ((top, bottom, down), (left, right, across)) =
            (neighbours(y / self.patch.0, self.grid.rows), neighbours(x / self.patch.1, self.grid.cols));
        let at = |row: usize, col: usize| row * self.grid.cols + col;
        Some([
            (at(top, left), (1.0 - down) * (1.0 - across)),
            (at(top, right), (1.0 - down) * across),
            (at(bottom, left), down * (1.0 - across)),
            (at(bottom, right), down * across),
        ])
    }

    /// Returns [`Mesh::around`] for pixel centres, separately for every row and every column of the slice. Each entry
    /// is the first row (or column) of patches that contributes, and the weights of this one and the next. Pixels that
    /// the model did not see have no weights.
    pub fn lines(&self) -> [Vec<(usize, Vec<f32>)>; 2] {
        let line = |place: f64, cells: usize| {
            let (before, after, way) = neighbours(place, cells);
            match () {
                () if place.floor() >= cells as f64 => (before, vec![]),
                () if before == after => (before, vec![1.0]),
                () => (before, vec![1.0 - way, way]),
            }
        };
        let lines = |pixels: usize, patch: f64, cells: usize| (0..pixels).map(|i| line((i as f64 + 0.5) / patch, cells)).collect();
        [lines(self.slice.0, self.patch.0, self.grid.rows), lines(self.slice.1, self.patch.1, self.grid.cols)]
    }

    /// Returns the patch at the centre of pixel (`x`, `y`) of the slice.
    ///
    /// # Errors
    /// If the pixel is outside the area that the model saw. The error names the valid pixels.
    pub fn patch_of_pixel(&self, x: usize, y: usize) -> Result<usize> {
        let center = |i: usize| i as f64 + 0.5;
        let (height, width) = self.slice;
        let found = if x < width && y < height { self.patch_at(center(x), center(y)) } else { None };
        found.ok_or_else(|| {
            let last_x = (0..width).rev().find(|&x| self.patch_at(center(x), 0.0).is_some()).unwrap_or(0);
            let last_y = (0..height).rev().find(|&y| self.patch_at(0.0, center(y)).is_some()).unwrap_or(0);
            let unseen = if (last_y + 1, last_x + 1) == self.slice {
                ""
            } else {
                "; what is beyond makes no whole patch, and `size` 224 would show it too"
            };
            Error::option(
                "point",
                format!(
                    "{x},{y} is outside: on this slice of {height} x {width} X goes from 0 to {last_x} and Y from 0 to {last_y}{unseen}"
                ),
            )
        })
    }
}

/// Returns the cells whose centres are before and after `place`, and the position of `place` between the two centres, 0
/// to 1. `place` is in cells, from 0 to `cells`.
fn neighbours(place: f64, cells: usize) -> (usize, usize, f32) {
    let place = (place - 0.5).clamp(0.0, (cells - 1) as f64);
    let before = place.floor() as usize;
    (before, (before + 1).min(cells - 1), (place - place.floor()) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_finds_its_patch() {
        // A slice of 40 x 100 at its own size: 2 x 6 patches. The model does not see 8 rows and 4 columns.
        let native = Mesh::new(Grid { rows: 2, cols: 6 }, 16, (40, 100), (40, 100));
        // A slice of 64 x 32 resized to 32 x 32: a patch is 32 rows high and 16 columns wide.
        let resized = Mesh::new(Grid { rows: 2, cols: 2 }, 16, (32, 32), (64, 32));
        let cases = [
            (native, (0, 0), Some(0)),
            (native, (15, 15), Some(0)),
            (native, (16, 15), Some(1)),
            (native, (95, 31), Some(11)),
            (native, (96, 31), None),
            (native, (95, 32), None),
            (native, (99, 39), None),
            (native, (100, 0), None),
            (resized, (15, 31), Some(0)),
            (resized, (16, 31), Some(1)),
            (resized, (15, 32), Some(2)),
            (resized, (31, 63), Some(3)),
            (resized, (32, 0), None),
        ];
        for (mesh, (x, y), want) in cases {
            assert_eq!(mesh.patch_of_pixel(x, y).ok(), want, "{x},{y} of {mesh:?}");
        }
        assert_eq!((native.covered(), resized.covered()), ((32.0, 96.0), (64.0, 32.0)));
        let error = native.patch_of_pixel(96, 0).expect_err("unseen").to_string();
        assert!(error.contains("X goes from 0 to 95 and Y from 0 to 31; what is beyond"), "{error}");
        let error = resized.patch_of_pixel(32, 0).expect_err("outside").to_string();
        assert!(error.ends_with("X goes from 0 to 31 and Y from 0 to 63"), "{error}");
    }

    #[test]
    fn between_centres_values_are_mixed_and_beyond_them_they_go_on() {
        let mesh = Mesh::new(Grid { rows: 2, cols: 3 }, 16, (32, 48), (64, 96)); // a patch is 32 x 32
        let value = |x: f64, y: f64| -> f32 {
            mesh.around(x, y).expect("seen").iter().map(|&(p, w)| w * [0.0, 1.0, 2.0, 10.0, 11.0, 12.0][p]).sum()
        };
        for (x, y, want) in [
            (16.0, 16.0, 0.0),
            (0.0, 0.0, 0.0),
            (32.0, 16.0, 0.5),
            (80.0, 48.0, 12.0),
            (95.9, 63.9, 12.0),
            (48.0, 32.0, 6.0),
            (40.0, 24.0, 3.25),
        ] {
            assert!((value(x, y) - want).abs() < 1e-6, "{} for {want} at {x},{y}", value(x, y));
        }
        assert!(mesh.around(96.0, 0.0).is_none());
    }

    #[test]
    fn lines_are_what_is_around_the_centres() {
        for mesh in
            [Mesh::new(Grid { rows: 2, cols: 3 }, 16, (40, 50), (64, 91)), Mesh::new(Grid { rows: 1, cols: 1 }, 16, (16, 20), (5, 4))]
        {
            let [rows, columns] = mesh.lines();
            assert_eq!((rows.len(), columns.len()), mesh.slice);
            let mut seen = 0;
            for (y, (top, down)) in rows.iter().enumerate() {
                for (x, (left, across)) in columns.iter().enumerate() {
                    let mut got = vec![0.0; mesh.grid.patches()];
                    for (a, b) in (0..down.len()).flat_map(|a| (0..across.len()).map(move |b| (a, b))) {
                        got[(top + a) * mesh.grid.cols + left + b] += down[a] * across[b];
                    }
                    let mut want = vec![0.0; mesh.grid.patches()];
                    let around = mesh.around(x as f64 + 0.5, y as f64 + 0.5);
                    seen += usize::from(around.is_some());
                    around.into_iter().flatten().for_each(|(patch, weight)| want[patch] += weight);
                    assert_eq!(got, want, "{x},{y} of {mesh:?}");
                }
            }
            assert!(seen > 0 && seen < rows.len() * columns.len());
        }
    }
}
