//! Layer normalisation of each row.

use super::cut::cut;
use super::{LANES, Recorder, bytes, pack, rows_of, shared, words};
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, TensorId};

/// Operations an element: mean 1, moments of the centred row 4, result 4.
const FLOPS: u64 = 9;

impl Recorder {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` of each row of x [.., C], with `weight` `[C]` and `bias` `[C]`; the result has x's shape.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn layernorm(&mut self, label: &str, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> Result<TensorId> {
        let (rows, c) = self.matrix(x);
        self.expect_len(label, weight, c);
        self.expect_len(label, bias, c);
        let (part, width) = pack(c);
        let pieces = cut(&self.limits, label, rows, &[c], self.limits.max_workgroups as usize)?;
        let y = self.result(label, self.graph.info(x).shape.clone());
        for piece in pieces {
            let reads = vec![rows_of(x, &piece, c), self.graph.view(weight), self.graph.view(bias)];
            let write = rows_of(y, &piece, c);
            self.graph.push(Dispatch {
                label: label.to_owned(),
                kernel: Kernel {
                    name: "layernorm",
                    parts: vec![part, shared::REDUCE, include_str!("../../shaders/layernorm.wgsl")],
                    constants: vec![("LANES", LANES.into()), ("EPS", eps.into())],
                },
                cost: Cost { flops: FLOPS * (piece.len() * c) as u64, bytes: bytes(reads.iter().chain([&write])) },
                reads,
                write,
                params: words(&[c / width]),
                workgroups: [piece.len() as u32, 1, 1],
            });
        }
        Ok(y)
    }
}
