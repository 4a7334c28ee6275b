//! A head on patch tokens.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::file::{Head, HeadFile};
use super::kind::{agree, patch_kind, preprocessing};
use crate::ct::{Orient, Size, Window};
use crate::error::{Error, Result};
use crate::heads::{Lattice, Linear, Rows};

/// A head on patch tokens, ready to label slices.
pub struct DenseHead {
    pub(super) linear: Linear,
    /// The label of each class.
    labels: Vec<u16>,
    /// The features that it may be applied to.
    kind: BTreeMap<String, String>,
}

impl DenseHead {
    /// Takes the head of a file.
    ///
    /// # Errors
    /// If the head is not one of patch tokens, or its classes are not labels.
    pub fn new(file: &HeadFile, name: impl Display) -> Result<Self> {
        let labels: Option<Vec<u16>> = file.about.classes.iter().map(|class| class.parse().ok()).collect();
        match (&file.head, labels) {
            (Head::Linear(linear), Some(labels)) if file.about.features.get("rows").is_some_and(|rows| rows == "patch") => {
                Ok(Self { linear: linear.clone(), labels, kind: file.about.features.clone() })
            }
            _ => Err(Error::input(name, "is no head on patch tokens; expected one that `meddino probe fit` made with `masks`")),
        }
    }

    /// Returns the number of logits: that of the labels, or 1 of two labels.
    pub fn logits(&self) -> usize {
        self.linear.logits()
    }

    /// Returns the label of each class.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Returns the preprocessing of the features that the head was fitted to. Messages call the head `name`.
    ///
    /// # Errors
    /// If they were no features of scans.
    pub fn preprocessing(&self, name: impl Display) -> Result<(Size, Window, Orient)> {
        preprocessing(&self.kind, name)
    }

    /// Checks that the head may be applied to patch tokens with these metadata.
    ///
    /// # Errors
    /// If the model or the preprocessing is another.
    pub fn check(&self, name: &str, metadata: &BTreeMap<String, String>) -> Result<()> {
        agree(&patch_kind(metadata), &self.kind, "the features that the head was fitted to").map_err(|problem| Error::input(name, problem))
    }

    /// Returns the label of each pixel of a slice of `shape` (height, width), row-major, from the tokens [P, D] of the
    /// cells of `lattice`.
    ///
    /// # Errors
    /// If the tokens are of another width.
    ///
    /// # Panics
    /// If there is not a token for each cell.
    pub fn label(&self, tokens: &dyn Rows, lattice: &Lattice, shape: (usize, usize)) -> Result<Vec<u16>> {
        Ok(self.decide(&self.scores(tokens)?, lattice, shape))
    }

    /// Returns the label of each pixel of a slice of `shape` (height, width), row-major, from scores [cells, K].
    ///
    /// # Panics
    /// If there are not K scores for each cell.
    pub fn decide(&self, scores: &[f32], lattice: &Lattice, shape: (usize, usize)) -> Vec<u16> {
        lattice.decide(scores, self.labels.len(), shape).into_iter().map(|class| self.labels[class]).collect()
    }

    /// Returns the scores of each class for each of `rows`: [N, K]. A head with one logit has the other at 0.
    ///
    /// # Errors
    /// If the rows are of another width, or cannot be read.
    pub fn scores(&self, rows: &dyn Rows) -> Result<Vec<f32>> {
        Ok(self.with_pairs(self.linear.scores(rows)?.into_iter()))
    }

    /// Checks that the head tells label 0, what is around the body, from others. Messages call the head `name`.
    ///
    /// # Errors
    /// If it has no label 0.
    pub fn check_background(&self, name: impl Display) -> Result<()> {
        if self.labels.contains(&0) {
            return Ok(());
        }
        let labels: Vec<String> = self.labels.iter().map(ToString::to_string).collect();
        let problem = format!("expected a head of label 0, the background, and of what is not, found the labels {}", labels.join(", "));
        Err(Error::input(name, problem))
    }

    /// Returns by how much the best score of a label other than 0 exceeds that of label 0, for each row of scores [N, K].
    ///
    /// # Panics
    /// If the head has no label 0 ([`DenseHead::check_background`]), or there are not K scores a row.
    pub fn margins(&self, scores: &[f32]) -> Vec<f32> {
        let zero = self.labels.iter().position(|label| *label == 0).expect("checked to have a label 0");
        assert!(scores.len().is_multiple_of(self.labels.len()), "a score for each label");
        let margin = |row: &[f32]| {
            let others = row.iter().enumerate().filter(|(class, _)| *class != zero).map(|(_, score)| *score);
            others.fold(f32::NEG_INFINITY, f32::max) - row[zero]
        };
        scores.chunks_exact(self.labels.len()).map(margin).collect()
    }

    /// Puts 0 before each logit of a head that has one.
    pub(super) fn with_pairs(&self, logits: impl Iterator<Item = f64>) -> Vec<f32> {
        let is_pair = self.linear.logits() == 1;
        logits.flat_map(|logit| is_pair.then_some(0.0).into_iter().chain([logit as f32])).collect()
    }
}
