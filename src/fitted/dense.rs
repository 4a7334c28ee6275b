//! A head on patch tokens.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::file::{Head, HeadFile};
use super::kind::{agree, patch_kind, preprocessing};
use crate::ct::{Orient, Size, Window};
use crate::error::{Error, Result};
use crate::heads::{Lattice, Linear, Rows};
use crate::vit::layers::Layers;

/// A head on patch tokens, ready to label slices.
#[derive(Debug)]
pub struct DenseHead {
    pub(super) linear: Linear,
    /// The label of each class.
    labels: Vec<u16>,
    /// The blocks whose tokens it is for.
    layers: Layers,
    /// The features that it may be applied to.
    kind: BTreeMap<String, String>,
}

impl DenseHead {
    /// Takes the head of a file.
    ///
    /// # Errors
    /// If the head is not one of patch tokens, or its classes are not labels.
    pub fn new(file: &HeadFile, name: impl Display) -> Result<Self> {
        let labels: Option<Vec<u16>> = file.about.classes.iter().map(|class| class.parse::<u16>().ok()).collect();
        match (&file.head, labels) {
            (Head::Linear(linear), Some(labels)) if file.about.features.get("rows").is_some_and(|rows| rows == "patch") => {
                let layers = file.about.layers(name)?;
                Ok(Self { linear: linear.clone(), labels, layers, kind: file.about.features.clone() })
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

    /// Returns the blocks whose patch tokens, joined, the head is for.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Returns the preprocessing of the features that the head was fitted to. Messages call the head `name`.
    ///
    /// # Errors
    /// If they were no features of scans.
    pub fn preprocessing(&self, name: impl Display) -> Result<(Size, Window, Orient)> {
        preprocessing(&self.kind, name)
    }

    /// Checks that the head may be applied to patch tokens of `layers` with these metadata.
    ///
    /// # Errors
    /// If the model, the preprocessing or the blocks are others.
    pub fn check(&self, name: &str, metadata: &BTreeMap<String, String>, layers: &Layers) -> Result<()> {
        agree(&patch_kind(metadata, layers), &self.kind, "the features that the head was fitted to")
            .map_err(|problem| Error::input(name, problem))
    }

    /// Returns the label of each pixel of a slice of `shape` (height, width), row-major, from the tokens [P, L C] of the
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

    /// Puts 0 before each logit of a head that has one.
    pub(super) fn with_pairs(&self, logits: impl Iterator<Item = f64>) -> Vec<f32> {
        let is_pair = self.linear.logits() == 1;
        logits.flat_map(|logit| is_pair.then_some(0.0).into_iter().chain([logit as f32])).collect()
    }
}
