//! A linear classifier: standardised features times weights, then a link to probabilities.

use super::design::Design;
use super::rows::Rows;
use super::standard::Standard;
use crate::cpu::double;
use crate::error::{Error, Result};

/// How logits become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// One logit a class; softmax over them. Two classes may have one logit, that of the second against the first.
    Softmax,
    /// One logit a class against all others; each through the logistic function, then divided by their sum, as in
    /// scikit-learn's `OneVsRestClassifier`.
    OneAgainstRest,
}

/// A linear classifier of K classes from D channels. It has one row of weights a class, or a single row if there are two
/// classes and [`Link::Softmax`].
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The link.
    pub link: Link,
    /// K.
    pub classes: usize,
    /// What is done to features first.
    pub standard: Standard,
    /// [rows, D]
    pub weight: Vec<f64>,
    /// `[rows]`
    pub bias: Vec<f64>,
}

impl Linear {
    /// Returns D.
    pub fn width(&self) -> usize {
        self.standard.mean.len()
    }

    /// Returns the number of logits.
    pub fn logits(&self) -> usize {
        self.bias.len()
    }

    /// Returns the same classifier of features that nothing is done to: its weights take the scales, its intercepts the
    /// means.
    #[must_use]
    pub fn of_plain_features(&self) -> Self {
        let (width, Standard { mean, scale }) = (self.width(), &self.standard);
        let weight: Vec<f64> = self.weight.iter().enumerate().map(|(i, w)| w * scale[i % width]).collect();
        let moved = |row: &[f64]| row.iter().zip(mean).map(|(w, mean)| w * mean).sum::<f64>();
        let bias = self.bias.iter().zip(weight.chunks_exact(width)).map(|(bias, row)| bias - moved(row)).collect();
        Self { weight, bias, standard: Standard::none(width), ..self.clone() }
    }

    /// Makes a classifier of rows [D weights, intercept, padding] of `stride` values.
    pub(super) fn of_parameters(link: Link, classes: usize, standard: &Standard, parameters: &[f64], stride: usize) -> Self {
        let width = standard.mean.len();
        let weight = parameters.chunks_exact(stride).flat_map(|row| &row[..width]).copied().collect();
        let bias = parameters.chunks_exact(stride).map(|row| row[width]).collect();
        Self { link, classes, standard: standard.clone(), weight, bias }
    }

    /// Returns rows [D weights, intercept, padding] of `stride` values.
    pub(super) fn parameters(&self, stride: usize) -> Vec<f64> {
        let mut parameters = vec![0.0; self.logits() * stride];
        for (row, (weight, bias)) in parameters.chunks_exact_mut(stride).zip(self.weight.chunks_exact(self.width()).zip(&self.bias)) {
            row[..weight.len()].copy_from_slice(weight);
            row[weight.len()] = *bias;
        }
        parameters
    }

    /// Returns the logits of `rows`: [N, logits].
    ///
    /// # Errors
    /// If the rows are not D wide, or cannot be read.
    pub fn scores(&self, rows: &dyn Rows) -> Result<Vec<f64>> {
        if rows.width() != self.width() {
            let problem = format!("expected vectors of {} channels, as the head was fitted to, found {}", self.width(), rows.width());
            return Err(Error::option("features", problem));
        }
        let design = Design::new(rows, &self.standard);
        let (parameters, logits) = (self.parameters(design.stride), self.logits());
        let parts = design.fold(Vec::new, |scores, _, block| {
            let start = scores.len();
            scores.resize(start + block.padded() * logits, 0.0);
            double::dots(&block.values, &parameters, design.stride, &mut scores[start..]);
            scores.truncate(start + block.rows * logits);
        })?;
        Ok(parts.concat())
    }

    /// Returns the probability of each class for each of `rows`: [N, K].
    ///
    /// # Errors
    /// As [`Linear::scores`].
    pub fn probabilities(&self, rows: &dyn Rows) -> Result<Vec<f64>> {
        let scores = self.scores(rows)?;
        Ok(scores.chunks_exact(self.logits()).flat_map(|logits| self.link.probabilities(logits)).collect())
    }
}

impl Link {
    /// Returns the probabilities of one row's `logits`.
    pub fn probabilities(self, logits: &[f64]) -> Vec<f64> {
        match (self, logits) {
            (Self::Softmax, [logit]) => vec![logistic(-logit), logistic(*logit)],
            (Self::Softmax, logits) => {
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
                let sum: f64 = powers.iter().sum();
                powers.iter().map(|power| power / sum).collect()
            }
            (Self::OneAgainstRest, logits) => {
                let each: Vec<f64> = logits.iter().map(|logit| logistic(*logit)).collect();
                let sum: f64 = each.iter().sum();
                // Where every class is as good as impossible, no class is likelier than another.
                each.iter().map(|p| if sum > 0.0 { p / sum } else { 1.0 / each.len() as f64 }).collect()
            }
        }
    }
}

fn logistic(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}
