//! GELU as an operation of its own.

use super::cut::cut;
use super::{LANES, Recorder, pack, rows_of, shared, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, TensorId};

/// Operations per GELU: bound, reciprocal, polynomial of degree 7, exponential, products.
const FLOPS: u64 = 26;

impl Recorder {
    /// Computes `x Phi(x)` of each element, in the exact (erf) form. The result has x's shape.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn gelu(&mut self, label: &str, x: TensorId) -> Result<TensorId> {
        let info = self.graph.info(x);
        let (n, shape) = (info.len(), info.shape.clone());
        let (part, width) = pack(n);
        self.expect_f32(label, &[x]);
        let cost = |packs: usize| Cost { flops: FLOPS * product(&[packs, width]), bytes: product(&[8, packs, width]) };
        let most = self.limits.reach(LANES as usize);
        let pieces = cut(&self.limits, label, n / width, &[4 * width], most, self.affordable(cost(1), LANES as usize))?;
        let y = self.result(label, shape);
        for piece in pieces {
            let packs = piece.len();
            self.push(Dispatch {
                label: label.to_owned(),
                kernel: Kernel {
                    name: "gelu",
                    parts: vec![part, shared::GELU, include_str!("../../shaders/gelu.wgsl")],
                    constants: vec![("LANES", LANES.into())],
                },
                cost: cost(packs),
                reads: vec![rows_of(x, &piece, width)],
                write: rows_of(y, &piece, width),
                params: words(&[packs]),
                workgroups: [packs.div_ceil(LANES as usize) as u32, 1, 1],
            });
        }
        Ok(y)
    }
}
