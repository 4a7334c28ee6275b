//! Operations of a vision transformer, recorded as dispatches of WGSL kernels. Each shader has one file here, with its
//! parameters, constants, grid and cost. Only this room includes WGSL text. It knows no model and touches no device.
//!
//! A [`Recorder`] has one method for each operation. The method creates the result's tensor and appends the dispatches
//! that write it, cut to the device's [`Limits`]. Wrong shapes are a programming error and panic; an operation that
//! does not fit the device returns an error.

mod attention;
mod basis;
mod cut;
mod gelu;
mod gemm;
mod heads;
mod layernorm;
mod matmul;
mod mosaic;
mod patch_embed;
mod resize;
mod rope;
mod similarity;
mod texture;
mod tokens;

pub use attention::attention_tiles;
pub use gemm::{default_products, product_defaults, product_tiles};
pub use heads::Heads;
pub use layernorm::Columns;
pub use matmul::Epilogue;
pub use mosaic::Mosaic;
pub use resize::{Field, Values, taps};
pub use rope::Rotation;
pub use texture::{TEXTURE_SIDE, texture_read, texture_write};
pub use tokens::Mask;

use std::ops::Range;

use crate::graph::{Dispatch, Elem, Graph, Limits, Operand, Role, TensorId};

/// Invocations in a workgroup of the kernels whose invocations compute single elements or rows.
const LANES: u32 = 64;

/// WGSL that several shaders share.
mod shared {
    pub const ATTENTION: &str = include_str!("../../shaders/shared/attention.wgsl");
    pub const BF16: &str = include_str!("../../shaders/shared/bf16.wgsl");
    pub const FACTORS_SPLIT: &str = include_str!("../../shaders/shared/factors_split.wgsl");
    pub const FACTORS_WHOLE: &str = include_str!("../../shaders/shared/factors_whole.wgsl");
    pub const FOUR_F32: &str = include_str!("../../shaders/shared/four_f32.wgsl");
    pub const FOUR_VEC4: &str = include_str!("../../shaders/shared/four_vec4.wgsl");
    pub const GELU: &str = include_str!("../../shaders/shared/gelu.wgsl");
    pub const GEMM_COOPERATIVE: &str = include_str!("../../shaders/shared/gemm_cooperative.wgsl");
    pub const GEMM_DIRECT: &str = include_str!("../../shaders/shared/gemm_direct.wgsl");
    pub const GEMM_TILED: &str = include_str!("../../shaders/shared/gemm_tiled.wgsl");
    pub const PACK_F32: &str = include_str!("../../shaders/shared/pack_f32.wgsl");
    pub const PACK_VEC4: &str = include_str!("../../shaders/shared/pack_vec4.wgsl");
    pub const REDUCE: &str = include_str!("../../shaders/shared/reduce.wgsl");
    pub const REDUCE_ALONE: &str = include_str!("../../shaders/shared/reduce_alone.wgsl");
    pub const REDUCE_SUBGROUPS: &str = include_str!("../../shaders/shared/reduce_subgroups.wgsl");
    pub const TWO_F32: &str = include_str!("../../shaders/shared/two_f32.wgsl");
}

/// A graph while it is recorded, and the limits to which its operations are cut.
#[derive(Clone, Debug)]
pub struct Recorder {
    graph: Graph,
    limits: Limits,
}

impl Recorder {
    /// Creates an empty graph for a device that allows `limits`.
    pub fn new(limits: Limits) -> Self {
        Self { graph: Graph::new(), limits: limits.countable() }
    }

    /// Adds a tensor of f32 that no operation writes: a weight or an input.
    pub fn tensor(&mut self, label: impl Into<String>, shape: impl Into<Vec<usize>>, role: Role) -> TensorId {
        self.graph.tensor(label, shape, role)
    }

    /// Adds a tensor of type `elem` that no operation writes. Matrix products, attention and `rope` read f32 and f16.
    pub fn tensor_of(&mut self, elem: Elem, label: impl Into<String>, shape: impl Into<Vec<usize>>, role: Role) -> TensorId {
        self.graph.tensor_of(elem, label, shape, role)
    }

    /// Adds a tensor that several operations write, each a part of it: [`Recorder::layernorm_patches`],
    /// [`Recorder::mosaic`].
    pub fn joined(&mut self, elem: Elem, label: impl Into<String>, shape: impl Into<Vec<usize>>) -> TensorId {
        self.graph.tensor_of(elem, label, shape, Role::Intermediate)
    }

    /// Returns the type of the tensors between operations: [`Limits::elem`].
    pub fn elem(&self) -> Elem {
        self.limits.elem
    }

    /// Returns what the device allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the limits and tiles of the operations that follow. The type of elements must stay the same.
    ///
    /// # Panics
    /// If the type of elements differs.
    pub fn set_limits(&mut self, limits: Limits) {
        assert_eq!(limits.elem, self.limits.elem, "one graph has one type of elements");
        self.limits = limits.countable();
    }

    /// Keeps an operation's result to the end, for the caller to read.
    pub fn keep(&mut self, id: TensorId) {
        self.graph.keep(id);
    }

    /// Returns the graph recorded so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the recorded graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// Appends a dispatch of one of this crate's shaders, which need no run-time checks.
    #[expect(unsafe_code, reason = "the shaders of this crate need no run-time checks, and nobody else gets here")]
    fn push(&mut self, dispatch: Dispatch) {
        // SAFETY: each operation asserts the shapes and types that its shader reads and writes, and each shader stays
        // inside them whatever values they hold. tests/kernels runs all shaders with and without checks over ragged
        // shapes, with sentinels behind every result.
        unsafe { self.graph.push_unchecked(dispatch) }
    }

    /// Adds a tensor for an operation's result, in f32.
    fn result(&mut self, label: &str, shape: impl Into<Vec<usize>>) -> TensorId {
        self.result_of(Elem::F32, label, shape)
    }

    fn result_of(&mut self, elem: Elem, label: &str, shape: impl Into<Vec<usize>>) -> TensorId {
        self.graph.tensor_of(elem, label, shape, Role::Intermediate)
    }

    /// Returns the type of a tensor's elements.
    fn elem_of(&self, id: TensorId) -> Elem {
        self.graph.info(id).elem
    }

    /// Returns the common type of several tensors' elements.
    fn one_elem(&self, label: &str, ids: &[TensorId]) -> Elem {
        let elem = self.elem_of(ids[0]);
        assert!(ids.iter().all(|&id| self.elem_of(id) == elem), "{label}: reads tensors of several types as one");
        elem
    }

    /// Returns the fewest bytes that a dispatch moves: every view once.
    fn bytes<'a>(&self, views: impl IntoIterator<Item = &'a Operand>) -> u64 {
        views.into_iter().map(|view| self.graph.info(view.tensor).bytes_of(view.len)).sum()
    }

    /// Returns the extents of a tensor that has `N` axes.
    fn shape<const N: usize>(&self, label: &str, id: TensorId) -> [usize; N] {
        let info = self.graph.info(id);
        info.shape.as_slice().try_into().unwrap_or_else(|_| panic!("{label}: {} {:?} should have {N} axes", info.label, info.shape))
    }

    /// Returns the number of rows (the product of all axes but the innermost) and their length (the innermost axis).
    fn matrix(&self, id: TensorId) -> (usize, usize) {
        let shape = &self.graph.info(id).shape;
        shape.split_last().map_or((1, 1), |(&cols, outer)| (outer.iter().product(), cols))
    }

    /// Returns the shortest view that may be bound and contains these elements, and the offset of the first of them in
    /// the view.
    fn around(&self, id: TensorId, elements: Range<usize>) -> (Operand, usize) {
        let step = (self.limits.alignment as usize / self.elem_of(id).bytes()).max(1);
        let offset = elements.start / step * step;
        (Operand { tensor: id, offset, len: elements.end - offset }, elements.start - offset)
    }

    /// Asserts that a tensor has the number of elements that an operation needs.
    fn expect_len(&self, label: &str, id: TensorId, len: usize) {
        let info = self.graph.info(id);
        assert_eq!(info.len(), len, "{label}: {} {:?} should have {len} elements", info.label, info.shape);
    }

    /// Asserts that tensors are f32, as the shader assumes.
    fn expect_f32(&self, label: &str, ids: &[TensorId]) {
        for &id in ids {
            assert_eq!(self.elem_of(id), Elem::F32, "{label}: {} should be of f32", self.graph.info(id).label);
        }
    }
}

/// Returns the view of rows `rows`, each of `row_len` elements, of a tensor.
fn rows_of(tensor: TensorId, rows: &Range<usize>, row_len: usize) -> Operand {
    Operand { tensor, offset: rows.start * row_len, len: rows.len() * row_len }
}

/// Returns the shared WGSL that reads rows of this length, and how many elements it reads at a time.
fn pack(row_len: usize) -> (&'static str, usize) {
    if row_len.is_multiple_of(4) { (shared::PACK_VEC4, 4) } else { (shared::PACK_F32, 1) }
}

/// Returns a uniform block of 32-bit words, padded to a multiple of 16 bytes, as the device requires.
fn words(values: &[usize]) -> Vec<u8> {
    let word = |&value: &usize| u32::try_from(value).expect("what fits a binding is counted in 32 bits").to_le_bytes();
    let mut bytes: Vec<u8> = values.iter().flat_map(word).collect();
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The binding would have half the bytes that the shader reads, and no shader checks that.
    #[test]
    #[should_panic(expected = "bias should be of f32")]
    fn a_tensor_of_another_type_is_not_bound() {
        let mut g = Recorder::new(Limits { elem: Elem::F16, ..Limits::DEFAULT });
        let [x, weight, bias] =
            [("x", [4, 8]), ("weight", [8, 8]), ("bias", [1, 8])].map(|(name, shape)| g.tensor_of(Elem::F16, name, shape, Role::Input));
        let _ = g.matmul("matmul", x, weight, Epilogue::Bias(bias));
    }

    #[test]
    #[should_panic(expected = "more bytes than can be counted")]
    fn extents_do_not_wrap_around() {
        Recorder::new(Limits::DEFAULT).tensor("x", [1 << 62, 4], Role::Input);
    }

    #[test]
    fn every_step_of_a_recorder_is_trusted() {
        let mut g = Recorder::new(Limits::DEFAULT);
        let x = g.tensor("x", [8], Role::Input);
        let y = g.gelu("gelu", x).unwrap();
        g.keep(y);
        let mut graph = g.finish();
        let copied = graph.steps()[0].clone();
        assert!(graph.is_trusted(0));
        graph.push(copied);
        assert!(!graph.is_trusted(1), "trust is in the step, not in what it says");
    }
}
