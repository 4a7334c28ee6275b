//! The size of a fit, from which its memory is told before it begins.

use super::linear::Link;
use crate::cpu::double;

/// Bytes of a value in f64.
pub(super) const F64: u64 = 8;

/// The size of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of vectors, N.
    pub rows: usize,
    /// Channels of a vector, D.
    pub width: usize,
    /// Number of classes, K.
    pub classes: usize,
    /// Number of values of the hyper-parameter that are fitted one after another.
    pub candidates: usize,
    /// Number of threads.
    pub threads: usize,
}

impl Extent {
    /// Length of a row of parameters: D + 1 and zeros.
    pub(super) fn stride(&self) -> u64 {
        (self.width + 1).next_multiple_of(double::LANES) as u64
    }

    /// Number of rows of parameters that are fitted together.
    pub(super) fn logits(&self, link: Link) -> u64 {
        match link {
            Link::Softmax if self.classes > 2 => self.classes as u64,
            Link::Softmax | Link::OneAgainstRest => 1,
        }
    }

    /// Bytes of what grows with the number of rows: targets, and the logits and probabilities of rows that a candidate is
    /// judged by.
    pub(super) fn by_rows(&self) -> u64 {
        4 * F64 * self.rows as u64 * self.classes as u64
    }
}
