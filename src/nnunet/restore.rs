//! Postprocessing of the network's scores: resampling to the cropped slice, the label of each voxel, and placement in
//! the uncropped slice.

use super::dataset::{Dataset, Region};
use super::prepare::Frame;
use super::resample::{between, nearest};
use crate::parallel;
use crate::tensor::Tensor;

/// The labels of one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmented {
    /// The label of each voxel of the scan's slice, row-major: [H, W].
    pub labels: Vec<u16>,
    /// The probability of each label, or of each region if the network has regions, at each voxel, if requested:
    /// [K, H, W].
    pub probabilities: Option<Tensor>,
}

impl Frame {
    /// Returns the labels of a slice from its scores [K, H, W] over the padded slice, as [`super::Tiling`] computes
    /// them. `dataset` says what the scores stand for. Without scores, the whole slice is background.
    ///
    /// Outside the bounding box of the nonzero voxels every voxel is background: label 0, with probability 1, and in no
    /// region.
    pub fn restore(&self, scores: Option<&Tensor>, dataset: &Dataset, with_probabilities: bool) -> Segmented {
        let ([_, height, width], classes, regions) = (self.shape, dataset.outputs(), &dataset.regions);
        let mut labels = vec![0; height * width];
        let mut probabilities = with_probabilities.then(|| {
            let mut probabilities = Tensor::zeros([classes, height, width]);
            if regions.is_empty() {
                probabilities.data_mut()[..height * width].fill(1.0);
            }
            probabilities
        });
        let Some(scores) = scores else { return Segmented { labels, probabilities } };
        let [_, rows, columns] = &self.cropped;
        let lines: Vec<Vec<f32>> = parallel::map(rows.len(), |row| self.line(scores, row));
        for (row, line) in rows.clone().zip(lines) {
            for (column, scores) in columns.clone().zip(line.chunks_exact(classes)) {
                labels[row * width + column] = if regions.is_empty() { best(scores) } else { last(scores, regions) };
                if let Some(probabilities) = &mut probabilities {
                    let voxel = probabilities.data_mut()[row * width + column..].iter_mut().step_by(height * width);
                    if regions.is_empty() {
                        voxel.zip(softmax(scores)).for_each(|(to, p)| *to = p);
                    } else {
                        voxel.zip(scores).for_each(|(to, score)| *to = sigmoid(*score));
                    }
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
        let between = |axis: usize, i: usize, count: usize| {
            if !self.nearest[axis] {
                return between(i, self.resized[axis], count);
            }
            let nearest = nearest(i, self.resized[axis], count);
            (nearest, nearest, 0.0)
        };
        let (above, below, down) = between(0, row, rows);
        let mut line = vec![0.0; columns * classes];
        for (class, map) in scores.data().chunks_exact(height * width).enumerate() {
            let at = |row: usize, column: usize| f64::from(map[(top + row) * width + left + column]);
            let between_rows = |column: usize| at(above, column) * (1.0 - down) + at(below, column) * down;
            for (column, out) in line[class..].iter_mut().step_by(classes).enumerate() {
                let (before, after, across) = between(1, column, columns);
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

/// Returns the label of the last region whose probability is above one half, or 0 if there is none.
fn last(scores: &[f32], regions: &[Region]) -> u16 {
    let inside = regions.iter().zip(scores).rev().find(|(_, score)| sigmoid(**score) > 0.5);
    inside.map_or(0, |(region, _)| region.label)
}

fn sigmoid(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}

/// Returns the softmax of the scores.
fn softmax(scores: &[f32]) -> impl Iterator<Item = f32> {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().map(|v| (v - greatest).exp()).sum();
    scores.iter().map(move |v| (v - greatest).exp() / sum)
}
