//! Scores of patches, interpolated to the pixels of a slice.

/// Cells in rows and columns over the model's image, each with K scores at its centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lattice {
    /// Rows and columns of cells.
    pub cells: (usize, usize),
    /// Pixels of the image from its top left corner to the centre of the first cell, and from one centre to the next.
    pub first: f64,
    /// See `first`.
    pub step: f64,
    /// Height and width of the image in pixels.
    pub image: (usize, usize),
}

impl Lattice {
    /// Returns the lattice of `patches` (rows, columns) of `patch_size` pixels. With `shifts` above 1, the image was also
    /// moved by each multiple of `patch_size / shifts` up and to the left, and the cells of all these images are
    /// interleaved.
    pub fn new(patches: (usize, usize), patch_size: usize, shifts: usize, image: (usize, usize)) -> Self {
        let cells = (patches.0 * shifts, patches.1 * shifts);
        Self { cells, first: patch_size as f64 / 2.0, step: patch_size as f64 / shifts as f64, image }
    }

    /// Returns the index of the largest score of each pixel of a slice of `height` x `width`, which was resized to the
    /// image. Scores [rows, columns, K] are interpolated between the centres of cells, and continue beyond the outermost
    /// ones. Of equal scores, the first counts.
    ///
    /// # Panics
    /// If there are not K scores a cell.
    pub fn decide(&self, scores: &[f32], k: usize, (height, width): (usize, usize)) -> Vec<usize> {
        let (rows, columns) = self.cells;
        assert_eq!(scores.len(), rows * columns * k, "{k} scores for each of {rows} x {columns} cells");
        let down = self.line(height, self.image.0, rows);
        let across = self.line(width, self.image.1, columns);
        let mut decided = Vec::with_capacity(height * width);
        let (mut row, mut here) = (vec![0.0; columns * k], vec![0.0; k]);
        for (top, bottom, way) in down {
            let line = |at: usize| &scores[at * columns * k..][..columns * k];
            row.iter_mut().zip(line(top).iter().zip(line(bottom))).for_each(|(v, (a, b))| *v = a + (b - a) * way);
            for &(left, right, way) in &across {
                let cell = |at: usize| &row[at * k..][..k];
                here.iter_mut().zip(cell(left).iter().zip(cell(right))).for_each(|(v, (a, b))| *v = a + (b - a) * way);
                decided.push((1..k).fold(0, |best, class| if here[class] > here[best] { class } else { best }));
            }
        }
        decided
    }

    /// Returns the median of each cell's value and those of its eight neighbours: [rows, columns]. Beyond the border, values
    /// are those of the nearest cell.
    ///
    /// # Panics
    /// If there is not a value for each cell.
    pub fn median(&self, values: &[f32]) -> Vec<f32> {
        let (rows, columns) = self.cells;
        assert_eq!(values.len(), rows * columns, "a value for each of {rows} x {columns} cells");
        let near = |at: usize, end: usize| [at.saturating_sub(1), at, (at + 1).min(end - 1)];
        let cell = |at: usize| {
            let mut window = [0.0; 9];
            let around = near(at / columns, rows).into_iter().flat_map(|row| near(at % columns, columns).map(|column| (row, column)));
            window.iter_mut().zip(around).for_each(|(v, (row, column))| *v = values[row * columns + column]);
            window.sort_unstable_by(f32::total_cmp);
            window[4]
        };
        (0..values.len()).map(cell).collect()
    }

    /// Returns the cells before and after each of `pixels`, and the way from one to the other, 0 to 1.
    fn line(&self, pixels: usize, image: usize, cells: usize) -> Vec<(usize, usize, f32)> {
        let place = |pixel: usize| {
            let at = (pixel as f64 + 0.5) * image as f64 / pixels as f64;
            let at = ((at - self.first) / self.step).clamp(0.0, (cells - 1) as f64);
            (at as usize, (at as usize + 1).min(cells - 1), at.fract() as f32)
        };
        (0..pixels).map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_of_two_classes_is_between_their_centres() {
        // Two patches of 16 pixels side by side; the border is at 16 pixels of the image, 8 of the slice.
        let lattice = Lattice::new((1, 2), 16, 1, (16, 32));
        let decided = lattice.decide(&[1.0, 0.0, 0.0, 1.0], 2, (8, 16));
        assert!(decided.chunks(16).all(|row| row == [[0; 8], [1; 8]].concat()), "{decided:?}");
        // One score against 0 that rises from -1 to 3 crosses 0 a quarter of the way.
        let decided = lattice.decide(&[0.0, -1.0, 0.0, 3.0], 2, (16, 32));
        assert_eq!(decided[..32].iter().position(|class| *class == 1), Some(12));
    }

    #[test]
    fn a_median_drops_what_is_alone_and_keeps_borders() {
        let lattice = Lattice::new((4, 5), 16, 1, (64, 80));
        let alone = |at: usize| (0..20).map(|i| if i == at { 9.0 } else { 1.0 }).collect::<Vec<f32>>();
        // At a corner the cell itself fills four of nine places.
        [0, 4, 7, 12, 15, 19].iter().for_each(|at| assert_eq!(lattice.median(&alone(*at)), [1.0; 20], "{at}"));
        let halves: Vec<f32> = (0..20).map(|i| if i % 5 < 2 { -1.0 } else { 1.0 }).collect();
        assert_eq!(lattice.median(&halves), halves);
        let rising: Vec<f32> = (0..20).map(|i| i as f32).collect();
        assert_eq!(lattice.median(&rising)[6..9], [6.0, 7.0, 8.0]);
        assert_eq!(Lattice::new((1, 1), 16, 1, (16, 16)).median(&[3.0]), [3.0]);
    }

    #[test]
    fn shifted_cells_stand_between_the_others() {
        let lattice = Lattice::new((1, 2), 16, 2, (16, 32));
        assert_eq!((lattice.cells, lattice.first.to_bits(), lattice.step.to_bits()), ((2, 4), 8_f64.to_bits(), 8_f64.to_bits()));
        // Cells at 8, 16, 24 and 32 pixels of each row; only the one at 24 is of class 1.
        let scores = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0].repeat(2);
        let decided = lattice.decide(&scores, 2, (16, 32));
        let found: Vec<usize> = (0..32).filter(|x| decided[*x] == 1).collect();
        assert_eq!(found, (20..28).collect::<Vec<_>>());
    }
}
