//! The settings of a fit.

use super::candidates::{Candidates, Measure};
use super::vectors::Vector;
use crate::heads::{Bootstrap, Pooling};

/// The settings of a fit.
#[derive(Clone, Debug)]
pub struct ProbeRecipe {
    /// The vector of an image.
    pub vector: Vector,
    /// How slices become a case, if rows are cases.
    pub pooling: Pooling,
    /// The heads to choose from.
    pub candidates: Candidates,
    /// What the choice is by.
    pub measure: Measure,
    /// Whether to standardise channels.
    pub standardise: bool,
    /// Whether every class counts alike, however many rows it has.
    pub balanced: bool,
    /// The shares of train, validation and test, if the table does not divide its rows.
    pub shares: [f64; 3],
    /// Number of folds of patients for the choice, if there is no validation part.
    pub folds: usize,
    /// The seed of the split and of the order of batches.
    pub seed: u64,
    /// The intervals of the report.
    pub bootstrap: Bootstrap,
}
