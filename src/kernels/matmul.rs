//! Linear layers: a matrix product and what follows it.

use super::cut::cut;
use super::gemm::Tile;
use super::{Recorder, rows_of, shared, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Constant, Cost, Dispatch, Elem, Kernel, Operand, TensorId};

/// What a kernel does to a matrix product before it stores the result. `bias` and `gamma` are `[N]`, `residual` is [..,
/// N].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// `+ bias`
    Bias(TensorId),
    /// `gelu(. + bias)`, exact
    BiasGelu(TensorId),
    /// `residual + gamma (. + bias)`
    BiasLayerScaleResidual {
        /// The layer's bias.
        bias: TensorId,
        /// LayerScale's factors.
        gamma: TensorId,
        /// The tensor to which the layer's result is added.
        residual: TensorId,
    },
}

impl Epilogue {
    /// Returns the epilogue that adds a bias if the layer has one.
    pub fn bias(bias: Option<TensorId>) -> Self {
        bias.map_or(Self::None, Self::Bias)
    }

    fn part(self) -> &'static str {
        match self {
            Self::None => include_str!("../../shaders/matmul/none.wgsl"),
            Self::Bias(_) => include_str!("../../shaders/matmul/bias.wgsl"),
            Self::BiasGelu(_) => include_str!("../../shaders/matmul/bias_gelu.wgsl"),
            Self::BiasLayerScaleResidual { .. } => include_str!("../../shaders/matmul/bias_layerscale_residual.wgsl"),
        }
    }

    /// Returns what the epilogue reads, in binding order: vectors of N elements, then the residual if there is one.
    fn reads(self) -> (Vec<TensorId>, Option<TensorId>) {
        match self {
            Self::None => (vec![], None),
            Self::Bias(bias) | Self::BiasGelu(bias) => (vec![bias], None),
            Self::BiasLayerScaleResidual { bias, gamma, residual } => (vec![bias, gamma], Some(residual)),
        }
    }
}

impl Recorder {
    /// Computes `epilogue(x weight^T)`: x [.., K] and `weight` [N, K], as checkpoints store it, give [.., N]. The
    /// result is f32 if a residual is added, else of type [`Recorder::elem`].
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn matmul(&mut self, label: &str, x: TensorId, weight: TensorId, epilogue: Epilogue) -> Result<TensorId> {
        let (_, residual) = epilogue.reads();
        self.matmul_as(if residual.is_some() { Elem::F32 } else { self.elem() }, label, x, weight, epilogue)
    }

    /// Computes [`Recorder::matmul`] with a result of type `elem`, such as f32 for an output.
    ///
    /// # Errors
    /// As [`Recorder::matmul`].
    pub fn matmul_as(&mut self, elem: Elem, label: &str, x: TensorId, weight: TensorId, epilogue: Epilogue) -> Result<TensorId> {
        let (m, k) = self.matrix(x);
        let [n, _] = self.shape(label, weight);
        self.expect_len(label, weight, n * k);
        let (vectors, residual) = epilogue.reads();
        vectors.iter().for_each(|&id| self.expect_len(label, id, n));
        residual.iter().for_each(|&id| self.expect_len(label, id, m * n));
        vectors.iter().chain(&residual).for_each(|&id| self.expect_f32(label, &[id]));

        let elems = [self.elem_of(x), self.elem_of(weight), elem];
        let [x_bytes, weight_bytes, y_bytes] = elems.map(Elem::bytes);
        let tile = Tile::choose(&self.limits, elems[0], [m, n, k]);
        let (most_rows, most_cols) = tile.reach(&self.limits);
        let row_cost = Cost { flops: product(&[2, n, k]), bytes: (k * x_bytes + n * y_bytes) as u64 };
        let rows = cut(&self.limits, label, m, &[k * x_bytes, n * y_bytes], most_rows, self.affordable(row_cost, tile.size.rows as usize))?;
        let cols = cut(&self.limits, label, n, &[k * weight_bytes], most_cols, usize::MAX)?;
        let pack = tile.pack(n, cols.iter().map(|cols| cols.start));
        let mut shape = self.graph.info(x).shape.clone();
        *shape.last_mut().expect("x has rows") = n;
        let y = self.result_of(elems[2], label, shape);
        for rows in &rows {
            for cols in &cols {
                let mut reads = vec![rows_of(x, rows, k), rows_of(weight, cols, k)];
                reads.extend(vectors.iter().map(|&id| self.graph.whole(id)));
                reads.extend(residual.map(|id| rows_of(id, rows, n)));
                self.push(Dispatch {
                    label: label.to_owned(),
                    kernel: kernel(tile, k, pack, elems, epilogue),
                    cost: self.product_cost(&reads, y_bytes, [rows.len(), cols.len(), k]),
                    reads,
                    write: rows_of(y, rows, n),
                    params: words(&[rows.len(), cols.len(), k, cols.start, n]),
                    workgroups: tile.workgroups(rows.len(), cols.len()),
                });
            }
        }
        Ok(y)
    }

    /// Returns the cost of a dispatch, which moves only its columns of the residual and of the result.
    fn product_cost(&self, reads: &[Operand], y_bytes: usize, [rows, cols, k]: [usize; 3]) -> Cost {
        let operands = self.bytes(&reads[..2]);
        let residual = if reads.len() == 5 { 4 } else { 0 };
        let vectors = product(&[reads.len().saturating_sub(2).min(2), 4, cols]);
        Cost { flops: product(&[2, rows, cols, k]), bytes: operands + product(&[rows, cols, residual + y_bytes]) + vectors }
    }
}

/// Returns the shader part that reads rows of x and of the weight.
pub(super) fn operands(k: usize) -> &'static str {
    if k.is_multiple_of(4) {
        include_str!("../../shaders/matmul/operands_vec4.wgsl")
    } else {
        include_str!("../../shaders/matmul/operands_scalar.wgsl")
    }
}

fn kernel(tile: Tile, k: usize, pack: usize, [x, weight, y]: [Elem; 3], epilogue: Epilogue) -> Kernel {
    let head = include_str!("../../shaders/matmul.wgsl");
    let mut parts = vec![head, operands(k), if pack == 4 { shared::PACK_VEC4 } else { shared::PACK_F32 }, epilogue.part()];
    if matches!(epilogue, Epilogue::BiasGelu(_)) {
        parts.push(shared::GELU);
    }
    parts.extend(tile.parts(pack));
    let mut constants = tile.constants(k);
    constants.extend([("X", x.into()), ("W", weight.into()), ("YPack", Constant::Elem(y, pack))]);
    Kernel { name: "matmul", parts, constants }
}
