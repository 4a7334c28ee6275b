//! Postprocessing of the network's scores: linear resampling to the cropped slice, the best class of each voxel, and
//! placement in the uncropped slice.

use super::prepare::Frame;
use super::resample::between;
use crate::parallel;
use crate::tensor::Tensor;

/// The labels of one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmented {
    /// The label of each voxel of the scan's slice, row-major: [H, W].
    pub labels: Vec<u16>,
    /// The probability of each class at each voxel, if requested: [K, H, W].
    pub probabilities: Option<Tensor>,
}

impl Frame {
    /// Returns the labels of a slice from its scores [K, H, W] over the padded slice, as [`super::Tiling`] computes
    /// them. Without scores, the whole slice is background.
    ///
    /// Outside the bounding box of the nonzero voxels every voxel is background: label 0, with probability 1.
    pub fn restore(&self, scores: Option<&Tensor>, classes: usize, with_probabilities: bool) -> Segmented {
        let [_, height, width] = self.shape;
        let mut labels = vec![0; height * width];
        let mut probabilities = with_probabilities.then(|| {
            let mut probabilities = Tensor::zeros([classes, height, width]);
            probabilities.data_mut()[..height * width].fill(1.0);
            probabilities
        });
        let Some(scores) = scores else { return Segmented { labels, probabilities } };
        let [_, rows, columns] = &self.cropped;
        let lines: Vec<Vec<f32>> = parallel::map(rows.len(), |row| self.line(scores, row));
        for (row, line) in rows.clone().zip(lines) {
            for (column, scores) in columns.clone().zip(line.chunks_exact(classes)) {
                labels[row * width + column] = best(scores);
                if let Some(probabilities) = &mut probabilities {
                    let voxel = probabilities.data_mut()[row * width + column..].iter_mut().step_by(height * width);
                    voxel.zip(softmax(scores)).for_each(|(to, p)| *to = p);
                }
            }
        }
        Segmented { labels, probabilities }
    }

    /// Returns the scores of row `row` of the cropped slice: [W, K].
    fn line(&self, scores: &Tensor, row: usize) -> Vec<f32> {
        let &[classes, height, width] = scores.shape() else { panic!("scores are [K, H, W], not {:?}", scores.shape()) };
        assert_eq!([height, width], self.padded, "the padded slice's scores");
        let ([rows, columns], [top, left]) = (self.cropped_size(), self.offset());
        let (above, below, down) = between(row, self.resized[0], rows);
        let mut line = vec![0.0; columns * classes];
        for (class, map) in scores.data().chunks_exact(height * width).enumerate() {
            let at = |row: usize, column: usize| f64::from(map[(top + row) * width + left + column]);
            let between_rows = |column: usize| at(above, column) * (1.0 - down) + at(below, column) * down;
            for (column, out) in line[class..].iter_mut().step_by(classes).enumerate() {
                let (before, after, across) = between(column, self.resized[1], columns);
                *out = (between_rows(before) * (1.0 - across) + between_rows(after) * across) as f32;
            }
        }
        line
    }
}

/// Returns the class with the highest score, the first one if several are equal.
fn best(scores: &[f32]) -> u16 {
    let greater = |best: usize, i: usize| if scores[i] > scores[best] { i } else { best };
    (1..scores.len()).fold(0, greater) as u16
}

/// Returns the softmax of the scores.
fn softmax(scores: &[f32]) -> impl Iterator<Item = f32> {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().map(|v| (v - greatest).exp()).sum();
    scores.iter().map(move |v| (v - greatest).exp() / sum)
}
