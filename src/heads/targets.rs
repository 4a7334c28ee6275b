//! What rows are taught: a share of each class, times the row's weight.

use crate::error::{Error, Result};

/// For each of N rows, a weight of each of K classes: [N, K], not negative. A row of one class and weight 1 has a 1
/// there and 0 elsewhere. A row that is part of two classes, such as a patch on an organ's border, has its share of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    classes: usize,
    values: Vec<f64>,
}

impl Targets {
    /// Makes targets of one class a row: `labels` `[N]`, each below `classes`.
    ///
    /// # Errors
    /// If there are fewer than two classes, or a label is not below `classes`.
    pub fn of_labels(labels: &[usize], classes: usize) -> Result<Self> {
        let mut values = vec![0.0; labels.len() * classes];
        for (row, &label) in labels.iter().enumerate() {
            if label >= classes {
                return Err(Error::option("labels", format!("expected classes below {classes}, found {label} for vector {row}")));
            }
            values[row * classes + label] = 1.0;
        }
        Self::of_shares(values, classes)
    }

    /// Makes targets of `values` [N, K].
    ///
    /// # Errors
    /// If there are fewer than two classes, a value is negative or no number, or fewer than two classes have any
    /// weight.
    pub fn of_shares(values: Vec<f64>, classes: usize) -> Result<Self> {
        let fail = |problem: String| Err(Error::option("labels", problem));
        if classes < 2 || !values.len().is_multiple_of(classes) {
            return fail(format!("expected at least two classes, and a value of each for every vector; found {classes} classes"));
        }
        if let Some(v) = values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
            return fail(format!("expected shares from 0 up, found {v}"));
        }
        let targets = Self { classes, values };
        match targets.totals().iter().filter(|total| **total > 0.0).count() {
            0 | 1 => fail("expected vectors of at least two classes, found one class only; there is nothing to tell apart".into()),
            _ => Ok(targets),
        }
    }

    /// Multiplies every class by a weight, so that all have the same total and the sum over all rows stays:
    /// scikit-learn's `class_weight="balanced"`.
    #[must_use]
    pub fn balanced(mut self) -> Self {
        let totals = self.totals();
        let found = totals.iter().filter(|total| **total > 0.0).count() as f64;
        let mean = totals.iter().sum::<f64>() / found;
        let factors: Vec<f64> = totals.iter().map(|total| if *total > 0.0 { mean / total } else { 0.0 }).collect();
        self.values.chunks_exact_mut(self.classes).for_each(|row| row.iter_mut().zip(&factors).for_each(|(v, factor)| *v *= factor));
        self
    }

    /// Returns class `class` against all others: two classes, of which the second is `class`.
    #[must_use]
    pub fn against_rest(&self, class: usize) -> Self {
        let pair = |row: &[f64]| [row.iter().sum::<f64>() - row[class], row[class]];
        Self { classes: 2, values: self.values.chunks_exact(self.classes).flat_map(pair).collect() }
    }

    /// Returns N.
    pub fn count(&self) -> usize {
        self.values.len() / self.classes
    }

    /// Returns K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the weight of each class in row `index`: `[K]`.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.classes..][..self.classes]
    }

    /// Returns each class's weight in all rows: `[K]`.
    pub fn totals(&self) -> Vec<f64> {
        let mut totals = vec![0.0; self.classes];
        self.values.chunks_exact(self.classes).for_each(|row| totals.iter_mut().zip(row).for_each(|(total, v)| *total += v));
        totals
    }
}
