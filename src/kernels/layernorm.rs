//! Layer normalisation of each row.

use super::cut::cut;
use super::{LANES, Recorder, pack, rows_of, shared, words};
use crate::error::Result;
use crate::graph::{Constant, Cost, Dispatch, Elem, Kernel, Limits, TensorId, Tier};

/// Operations an element: mean 1, moments of the centred row 4, result 4.
const FLOPS: u64 = 9;

impl Recorder {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` of each row of x [.., C], with `weight` `[C]` and `bias` `[C]`; the result has x's shape,
    /// and elements of [`Recorder::elem`].
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn layernorm(&mut self, label: &str, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> Result<TensorId> {
        self.layernorm_as(self.elem(), label, x, weight, bias, eps)
    }

    /// The same with elements of another type: f32 for an output.
    ///
    /// # Errors
    /// As [`Recorder::layernorm`].
    pub fn layernorm_as(&mut self, elem: Elem, label: &str, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> Result<TensorId> {
        let (rows, c) = self.matrix(x);
        self.expect_len(label, weight, c);
        self.expect_len(label, bias, c);
        let (part, width) = pack(c);
        let row_bytes = [c * Elem::F32.bytes(), c * elem.bytes()];
        let wanted = self.affordable(Cost { flops: FLOPS * c as u64, bytes: row_bytes.iter().sum::<usize>() as u64 }, 1);
        let pieces = cut(&self.limits, label, rows, &row_bytes, self.limits.max_workgroups as usize, wanted)?;
        let y = self.result_of(elem, label, self.graph.info(x).shape.clone());
        for piece in pieces {
            let reads = vec![rows_of(x, &piece, c), self.graph.view(weight), self.graph.view(bias)];
            let write = rows_of(y, &piece, c);
            self.graph.push(Dispatch {
                label: label.to_owned(),
                kernel: Kernel {
                    name: "layernorm",
                    parts: vec![part, reduction(&self.limits), include_str!("../../shaders/layernorm.wgsl")],
                    constants: vec![("LANES", LANES.into()), ("EPS", eps.into()), ("OutPack", Constant::Elem(elem, width))],
                },
                cost: Cost { flops: FLOPS * (piece.len() * c) as u64, bytes: self.bytes(reads.iter().chain([&write])) },
                reads,
                write,
                params: words(&[c / width]),
                workgroups: [piece.len() as u32, 1, 1],
            });
        }
        Ok(y)
    }
}

/// How a workgroup's sums are taken.
fn reduction(limits: &Limits) -> &'static str {
    match limits.tier {
        Tier::Baseline | Tier::Direct => shared::REDUCE,
        Tier::Subgroups | Tier::Cooperative8 | Tier::Cooperative16 => shared::REDUCE_SUBGROUPS,
    }
}
