//! Queries, keys and values by head.

use std::ops::Range;

use super::Recorder;
use crate::graph::{Operand, TensorId};

/// Queries, keys and values of every token by head, each [B, N, T, D], in three tensors or in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// B, N, T, D.
    pub(super) shape: [usize; 4],
    /// The tensors that hold queries, keys and values, and the element at which each of these begins.
    pub(super) parts: [(TensorId, usize); 3],
    /// How many first elements of pairs lie side by side.
    pub(super) run: usize,
}

impl Heads {
    /// Returns B, N, T, D.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Returns the tensors that hold queries, keys and values, and the element at which each of these begins.
    pub fn parts(&self) -> [(TensorId, usize); 3] {
        self.parts
    }

    /// Returns which element of a head lies at `place` of D, in queries and keys. [`Recorder::rope`] changes their order,
    /// which changes no score. Values are in order.
    pub fn source(&self, place: usize) -> usize {
        let half = self.shape[3] / 2;
        place / (2 * self.run) * self.run + place % self.run + place / self.run % 2 * half
    }

    /// Returns the view of the `bound` heads, of B N, of the queries (0), keys (1) or values (2).
    pub(super) fn view(&self, part: usize, bound: &Range<usize>) -> Operand {
        let [_, _, tokens, head_dim] = self.shape;
        let (tensor, first) = self.parts[part];
        let head = tokens * head_dim;
        Operand { tensor, offset: first + bound.start * head, len: bound.len() * head }
    }
}

impl Recorder {
    /// Returns queries, keys and values that lie in three tensors [B, N, T, D].
    ///
    /// # Panics
    /// If the shapes differ, which is a programming error.
    pub fn heads(&self, label: &str, [q, k, v]: [TensorId; 3]) -> Heads {
        let shape = self.shape(label, q);
        [k, v].iter().for_each(|&id| assert_eq!(self.shape::<4>(label, id), shape, "{label}: queries, keys and values of one shape"));
        Heads { shape, parts: [q, k, v].map(|id| (id, 0)), run: (shape[3] / 2).max(1) }
    }
}
