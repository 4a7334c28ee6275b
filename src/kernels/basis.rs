//! Projects tokens onto a few directions.

use super::layernorm::{reduction, row_lanes};
use super::{LANES, Recorder, cut::cut, pack, rows_of, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, TensorId};

impl Recorder {
    /// Computes the dot products of `directions` [K, C] with each row of `tokens` [.., C] minus `mean` `[C]`: [.., K],
    /// all f32. If each direction is divided by its standard deviation, these are the whitened scores of principal
    /// components.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn basis(&mut self, label: &str, tokens: TensorId, mean: TensorId, directions: TensorId) -> Result<TensorId> {
        let (rows, c) = self.matrix(tokens);
        let [components, _] = self.shape(label, directions);
        self.expect_len(label, mean, c);
        self.expect_len(label, directions, components * c);
        self.expect_f32(label, &[tokens, mean, directions]);
        let (part, width) = pack(c);
        let row_lanes = row_lanes(&self.limits, c / width);
        let reach = (LANES / row_lanes) as usize;
        let cost = |rows: usize| Cost { flops: product(&[rows, 3, components, c]), bytes: product(&[4, rows, c + components]) };
        let most = self.limits.reach(reach);
        let pieces = cut(&self.limits, label, rows, &[4 * c, 4 * components], most, self.affordable(cost(1), reach))?;
        let mut shape = self.graph.info(tokens).shape.clone();
        *shape.last_mut().expect("a row has an axis") = components;
        let y = self.result(label, shape);
        for piece in pieces {
            self.push(Dispatch {
                label: label.to_owned(),
                kernel: Kernel {
                    name: "basis",
                    parts: vec![part, reduction(&self.limits, row_lanes), include_str!("../../shaders/basis.wgsl")],
                    constants: vec![("LANES", LANES.into()), ("ROW_LANES", row_lanes.into()), ("COMPONENTS", (components as u32).into())],
                },
                reads: vec![rows_of(tokens, &piece, c), self.graph.whole(mean), self.graph.whole(directions)],
                write: rows_of(y, &piece, components),
                params: words(&[piece.len(), c / width]),
                workgroups: [piece.len().div_ceil(reach) as u32, 1, 1],
                cost: cost(piece.len()),
            });
        }
        Ok(y)
    }
}
