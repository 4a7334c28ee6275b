//! A head that tells the body from what is around it.

use std::fmt::Display;

use super::dense::DenseHead;
use crate::error::{Error, Result};
use crate::heads::{Lattice, Rows};

/// A head on patch tokens whose label 0 is what is around the body; all its other labels are of the body.
#[derive(Debug)]
pub struct BodyHead {
    head: DenseHead,
    /// The class of label 0.
    around: usize,
}

impl BodyHead {
    /// Takes a head. Messages call it `name`.
    ///
    /// # Errors
    /// If it has no label 0.
    pub fn new(head: DenseHead, name: impl Display) -> Result<Self> {
        if let Some(around) = head.labels().iter().position(|label| *label == 0) {
            return Ok(Self { head, around });
        }
        let labels: Vec<String> = head.labels().iter().map(ToString::to_string).collect();
        let problem = format!("expected a head of label 0, the background, and of what is not, found the labels {}", labels.join(", "));
        Err(Error::input(name, problem))
    }

    /// Returns the head.
    pub fn head(&self) -> &DenseHead {
        &self.head
    }

    /// Returns by how much the best score of a label of the body exceeds that of label 0, for each row of scores [N, K].
    ///
    /// # Panics
    /// If there are not K scores a row.
    pub fn margins(&self, scores: &[f32]) -> Vec<f32> {
        let k = self.head.labels().len();
        assert!(scores.len().is_multiple_of(k), "a score for each label");
        let margin = |row: &[f32]| {
            let others = row.iter().enumerate().filter(|(class, _)| *class != self.around).map(|(_, score)| *score);
            others.fold(f32::NEG_INFINITY, f32::max) - row[self.around]
        };
        scores.chunks_exact(k).map(margin).collect()
    }

    /// Makes those `labels` of a slice of `shape` (height, width) 0 that are not of the body, from the tokens [P, L C] of
    /// the cells of `lattice`.
    ///
    /// # Errors
    /// If the tokens are of another width.
    ///
    /// # Panics
    /// If there is not a token for each cell, or a label for each pixel.
    pub fn cut(&self, labels: &mut [u16], tokens: &dyn Rows, lattice: &Lattice, shape: (usize, usize)) -> Result<()> {
        cut_to_body(labels, &self.margins(&self.head.scores(tokens)?), lattice, shape);
        Ok(())
    }
}

/// Makes those `labels` of a slice of `shape` (height, width) 0 that are not of the body. `margins` has one number a
/// cell, by how much the cell is of the body ([`BodyHead::margins`]). A cell that differs from most of its neighbours
/// follows them.
///
/// # Panics
/// If there is not a margin for each cell, or a label for each pixel.
pub fn cut_to_body(labels: &mut [u16], margins: &[f32], lattice: &Lattice, shape: (usize, usize)) {
    assert_eq!(labels.len(), shape.0 * shape.1, "a label for each of {} x {} pixels", shape.0, shape.1);
    let pairs: Vec<f32> = lattice.median(margins).into_iter().flat_map(|margin| [0.0, margin]).collect();
    labels.iter_mut().zip(lattice.decide(&pairs, 2, shape)).filter(|(_, class)| *class == 0).for_each(|(label, _)| *label = 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_body_become_background() {
        // Five cells of 16 pixels in three rows; the body is in the first two columns, and one cell alone is not.
        let lattice = Lattice::new((3, 5), 16, 1, (48, 80));
        let mut margins: Vec<f32> = (0..15).map(|i| if i % 5 < 2 { 2.0 } else { -2.0 }).collect();
        (margins[14], margins[5]) = (7.0, -7.0);
        let mut labels = vec![3; 48 * 80];
        cut_to_body(&mut labels, &margins, &lattice, (48, 80));
        for (y, row) in labels.chunks_exact(80).enumerate() {
            assert_eq!(row, [vec![3; 32], vec![0; 48]].concat(), "row {y}");
        }
    }
}
