//! GELU on its own.

use super::cut::cut;
use super::{LANES, Recorder, pack, rows_of, shared, words};
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, TensorId};

/// Operations of one GELU: bound, reciprocal, polynomial of degree 7, exponential, products.
const FLOPS: u64 = 26;

impl Recorder {
    /// `x Phi(x)` of each element, in the exact (erf) form; the result has x's shape.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn gelu(&mut self, label: &str, x: TensorId) -> Result<TensorId> {
        let info = self.graph.info(x);
        let (n, shape) = (info.len(), info.shape.clone());
        let (part, width) = pack(n);
        let most = self.limits.max_workgroups as usize * LANES as usize * width;
        let pieces = cut(&self.limits, label, n, &[4], most, self.affordable(Cost { flops: FLOPS, bytes: 8 }, LANES as usize))?;
        let y = self.result(label, shape);
        for piece in pieces {
            let (reads, write) = (vec![rows_of(x, &piece, 1)], rows_of(y, &piece, 1));
            let packs = piece.len() / width;
            self.graph.push(Dispatch {
                label: label.to_owned(),
                kernel: Kernel {
                    name: "gelu",
                    parts: vec![part, shared::GELU, include_str!("../../shaders/gelu.wgsl")],
                    constants: vec![("LANES", LANES.into())],
                },
                cost: Cost { flops: FLOPS * piece.len() as u64, bytes: self.bytes(reads.iter().chain([&write])) },
                reads,
                write,
                params: words(&[packs]),
                workgroups: [(packs as u32).div_ceil(LANES), 1, 1],
            });
        }
        Ok(y)
    }
}
