//! Nearest neighbours by cosine, as DINO's evaluation has it: the k most similar vectors vote for their classes, each
//! with weight `exp(cosine / T)`.

use super::extent::{Extent, F64};
use super::rows::{self, Rows};
use crate::cpu::double;
use crate::error::{Error, Result};
use crate::parallel;
use crate::tensor::Tensor;

/// Vectors that are compared with the bank at a time.
const BLOCK: usize = 16;

/// Vectors of length 1, and their classes.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// [N, stride]
    bank: Vec<f64>,
    width: usize,
    stride: usize,
    labels: Vec<usize>,
    classes: usize,
    temperature: f64,
}

impl Neighbours {
    /// DINO's temperature.
    pub const TEMPERATURE: f64 = 0.07;
    /// DINO's numbers of neighbours.
    pub const COUNTS: [usize; 4] = [10, 20, 100, 200];

    /// Keeps `rows` with their classes `labels`, each below `classes`.
    ///
    /// # Errors
    /// If there are no rows, a value is not finite, a label is missing or unknown, the temperature is not above 0, or the
    /// rows cannot be read.
    pub fn new(rows: &dyn Rows, labels: &[usize], classes: usize, temperature: f64) -> Result<Self> {
        rows::check(rows)?;
        let mut bank = Self::empty(rows.width(), labels, classes, temperature, rows.count())?;
        let mut buffer = Vec::new();
        for first in 0..rows.count() {
            bank.bank.extend(unit(rows.read(first, 1, &mut buffer)?, bank.stride));
        }
        Ok(bank)
    }

    /// Returns the most bytes that a bank of all vectors takes, with the predictions for each of its rows and candidates.
    pub fn bytes(extent: &Extent) -> u64 {
        let rows = extent.rows as u64;
        let cosines = extent.threads as u64 * rows * F64 * (BLOCK as u64 + 2);
        2 * F64 * rows * extent.stride() + extent.by_rows() * extent.candidates as u64 + cosines
    }

    /// Makes the bank whose [`Neighbours::unit_vectors`] are `vectors` [N, D], to the last bit.
    ///
    /// # Errors
    /// If there are no vectors, they are not of `width` channels, a value is not finite, a label is missing or
    /// unknown, or the temperature is not above 0.
    pub fn of_unit_vectors(vectors: &[f64], width: usize, labels: &[usize], classes: usize, temperature: f64) -> Result<Self> {
        if width == 0 || vectors.is_empty() || !vectors.len().is_multiple_of(width) || vectors.iter().any(|v| !v.is_finite()) {
            let problem = format!("expected finite vectors of {width} channels, found {} values", vectors.len());
            return Err(Error::option("features", problem));
        }
        let mut bank = Self::empty(width, labels, classes, temperature, vectors.len() / width)?;
        for vector in vectors.chunks_exact(width) {
            bank.bank.extend_from_slice(vector);
            bank.bank.extend(std::iter::repeat_n(0.0, bank.stride - width));
        }
        Ok(bank)
    }

    /// Makes a bank for `count` vectors, which has none yet.
    fn empty(width: usize, labels: &[usize], classes: usize, temperature: f64, count: usize) -> Result<Self> {
        if labels.len() != count || labels.iter().any(|label| *label >= classes) {
            return Err(Error::option("labels", format!("expected a class below {classes} for each of {count} vectors")));
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::option("temperature", format!("expected a number above 0, found {temperature}")));
        }
        let stride = width.next_multiple_of(double::LANES);
        Ok(Self { bank: Vec::with_capacity(count * stride), width, stride, labels: labels.to_vec(), classes, temperature })
    }

    /// Returns N.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// Returns D.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the class of each vector: `[N]`.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Returns the number of classes, K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the temperature.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Returns the vectors, of length 1: [N, D].
    pub fn vectors(&self) -> Tensor {
        Tensor::new([self.count(), self.width], self.unit_vectors().map(|v| v as f32).collect())
    }

    /// Returns the values of the vectors, of length 1, in the precision of the votes: [N, D].
    pub fn unit_vectors(&self) -> impl Iterator<Item = f64> {
        self.bank.chunks_exact(self.stride).flat_map(|row| &row[..self.width]).copied()
    }

    /// Returns the share of the vote that each class gets from the `k` nearest vectors, for each of `rows` and of `ks`:
    /// `[ks][N, K]`. A `k` above the number of vectors counts them all.
    ///
    /// # Errors
    /// If the rows are not as wide as the bank, a `k` is 0, or the rows cannot be read.
    pub fn probabilities(&self, rows: &dyn Rows, ks: &[usize]) -> Result<Vec<Vec<f64>>> {
        if rows.width() != self.width {
            let problem = format!("expected vectors of {} channels, as the head was fitted to, found {}", self.width, rows.width());
            return Err(Error::option("features", problem));
        }
        if ks.contains(&0) {
            return Err(Error::option("k", "expected at least one neighbour, found 0"));
        }
        let most = ks.iter().copied().max().unwrap_or(1).min(self.count());
        let blocks = parallel::map(rows.count().div_ceil(BLOCK), |block| -> Result<Vec<Vec<f64>>> {
            let (first, mut buffer) = (block * BLOCK, Vec::new());
            let count = BLOCK.min(rows.count() - first);
            let values = rows.read(first, count, &mut buffer)?;
            let mut x: Vec<f64> = values.chunks_exact(self.width).flat_map(|row| unit(row, self.stride)).collect();
            x.resize(count.next_multiple_of(double::ROWS) * self.stride, 0.0);
            let mut cosines = vec![0.0; x.len() / self.stride * self.count()];
            double::dots(&x, &self.bank, self.stride, &mut cosines);
            let mut votes = vec![Vec::with_capacity(count * self.classes); ks.len()];
            for cosines in cosines.chunks_exact(self.count()).take(count) {
                let nearest = nearest(cosines, most);
                ks.iter().zip(&mut votes).for_each(|(k, votes)| votes.extend(self.vote(cosines, &nearest[..most.min(*k)])));
            }
            Ok(votes)
        });
        let mut votes = vec![Vec::new(); ks.len()];
        for block in blocks {
            votes.iter_mut().zip(block?).for_each(|(votes, block)| votes.extend(block));
        }
        Ok(votes)
    }

    fn vote(&self, cosines: &[f64], nearest: &[usize]) -> Vec<f64> {
        let mut votes = vec![0.0; self.classes];
        // Relative to the nearest, so that no power overflows.
        let weight = |at: usize| ((cosines[at] - cosines[nearest[0]]) / self.temperature).exp();
        nearest.iter().for_each(|&at| votes[self.labels[at]] += weight(at));
        let sum: f64 = votes.iter().sum();
        votes.iter().map(|vote| vote / sum).collect()
    }
}

/// Returns the indices of the `k` largest of `values`, in descending order; of equal values, the first comes first.
fn nearest(values: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let by_value = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, by_value);
        order.truncate(k);
    }
    order.sort_unstable_by(by_value);
    order
}

/// Returns `row` divided by its length, and zeros up to `stride`. A row of zeros stays.
fn unit(row: &[f32], stride: usize) -> Vec<f64> {
    let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut unit: Vec<f64> = row.iter().map(|v| f64::from(*v) / if length > 0.0 { length } else { 1.0 }).collect();
    unit.resize(stride, 0.0);
    unit
}
