//! Cosine similarity of tokens to one of them.

use super::layernorm::{reduction, row_lanes};
use super::{LANES, Recorder, cut::cut, pack, rows_of, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, TensorId};

/// Operations per element: three products and three sums.
const FLOPS: u64 = 6;

/// The smallest length that is divided by, as in PyTorch's `cosine_similarity` and on the CPU.
const EPS: f32 = 1e-8;

impl Recorder {
    /// Computes the cosine of the angle between `query` `[C]` and each row of `tokens` [.., C]: `[..]`, from -1 to 1.
    /// Both are f32. Lengths below 1e-8 count as 1e-8. Squares are summed in f32, so values should be between 1e-15 and
    /// 1e15; those of normalised tokens are about 1.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn similarity(&mut self, label: &str, tokens: TensorId, query: TensorId) -> Result<TensorId> {
        let (rows, c) = self.matrix(tokens);
        self.expect_len(label, query, c);
        self.expect_f32(label, &[tokens, query]);
        let (part, width) = pack(c);
        let row_lanes = row_lanes(&self.limits, c / width);
        let reach = (LANES / row_lanes) as usize;
        let cost = |rows: usize| Cost { flops: FLOPS * product(&[rows, c]), bytes: product(&[4, rows, c + 1]) };
        let most = self.limits.reach(reach);
        let pieces = cut(&self.limits, label, rows, &[4 * c, 4], most, self.affordable(cost(1), reach))?;
        let shape = self.graph.info(tokens).shape.clone();
        let y = self.result(label, &shape[..shape.len() - 1]);
        for piece in pieces {
            self.push(Dispatch {
                label: label.to_owned(),
                kernel: Kernel {
                    name: "similarity",
                    parts: vec![part, reduction(&self.limits, row_lanes), include_str!("../../shaders/similarity.wgsl")],
                    constants: vec![("LANES", LANES.into()), ("ROW_LANES", row_lanes.into()), ("EPS", EPS.into())],
                },
                reads: vec![rows_of(tokens, &piece, c), self.graph.whole(query)],
                write: rows_of(y, &piece, 1),
                params: words(&[piece.len(), c / width]),
                workgroups: [piece.len().div_ceil(reach) as u32, 1, 1],
                cost: cost(piece.len()),
            });
        }
        Ok(y)
    }
}
