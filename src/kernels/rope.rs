//! Rotary position embedding, and the change from token-major qkv to head-major q, k and v.

use std::ops::Range;

use super::cut::cut;
use super::{LANES, Recorder, pack, rows_of, shared, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Constant, Cost, Dispatch, Elem, Kernel, TensorId};

/// Queries, keys and values by head, each [B, N, T, D]. They are three tensors because each must fit a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Queries, rotated.
    pub q: TensorId,
    /// Keys, rotated.
    pub k: TensorId,
    /// Values.
    pub v: TensorId,
}

/// The sizes of one attention layer.
#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    tokens: usize,
    heads: usize,
    head_dim: usize,
    /// Number of cls and storage tokens, which are not rotated.
    prefix: usize,
}

impl Recorder {
    /// Splits qkv [B, T, 3C], whose rows are q, k, v, each `heads` heads of D, into three tensors [B, N, T, D]. Rotates
    /// q and k of the last P tokens by `table` [2, P, D/2] (sines, then cosines), and leaves v as it is. With `bf16`, q
    /// and k (all tokens), each product and each sum are rounded to bf16, nearest even. The results' elements are
    /// [`Recorder::elem`].
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn rope(&mut self, label: &str, qkv: TensorId, table: TensorId, heads: usize, bf16: bool) -> Result<Heads> {
        let [batch, tokens, c3] = self.shape(label, qkv);
        let [two, patches, half] = self.shape(label, table);
        assert_eq!((two, c3), (2, 3 * heads * 2 * half), "{label}: a table of {half} angles for {heads} heads in rows of {c3}");
        assert!(patches <= tokens, "{label}: a table of {patches} patches for {tokens} tokens");
        self.expect_f32(label, &[table]);
        let shape = Shape { batch, tokens, heads, head_dim: 2 * half, prefix: tokens - patches };
        let part = |recorder: &mut Self, part, name| recorder.head_major(&format!("{label}.{name}"), qkv, table, part, shape, bf16);
        Ok(Heads { q: part(self, 0, "q")?, k: part(self, 1, "k")?, v: part(self, 2, "v")? })
    }

    /// Writes one third of qkv: q, k or v.
    fn head_major(&mut self, label: &str, qkv: TensorId, table: TensorId, part: usize, shape: Shape, bf16: bool) -> Result<TensorId> {
        let Shape { batch, tokens, heads, head_dim, .. } = shape;
        let (c3, half) = (3 * heads * head_dim, head_dim / 2);
        let packs = half / pack(half).1;
        let elems = [self.elem_of(qkv), self.elem()];
        let [qkv_bytes, y_bytes] = elems.map(Elem::bytes);
        // The grid covers all heads along y, bound or not.
        let most = if heads <= self.limits.reach(1) { self.limits.reach(LANES as usize) / packs } else { 0 };
        let row_cost = Cost { flops: (3 * heads * head_dim) as u64, bytes: (heads * head_dim * (qkv_bytes + y_bytes)) as u64 };
        let rows = cut(&self.limits, label, batch * tokens, &[c3 * qkv_bytes], most, self.affordable(row_cost, 1))?;
        let bound_heads = cut(&self.limits, label, batch * heads, &[tokens * head_dim * y_bytes], usize::MAX, usize::MAX)?;
        let y = self.result_of(elems[1], label, [batch, heads, tokens, head_dim]);
        for rows in &rows {
            for bound in bound_heads.iter().filter(|bound| overlap(rows, tokens, bound, heads)) {
                let elements = product(&[rows.len(), heads, head_dim]);
                self.push(Dispatch {
                    label: label.to_owned(),
                    kernel: kernel(half, part < 2, bf16, elems),
                    reads: vec![rows_of(qkv, rows, c3), self.graph.whole(table)],
                    write: rows_of(y, bound, tokens * head_dim),
                    params: words(&[tokens, shape.prefix, heads, part, rows.start, rows.len(), bound.start, bound.len()]),
                    workgroups: [(rows.len() * packs).div_ceil(LANES as usize) as u32, heads as u32, 1],
                    cost: Cost { flops: if part < 2 { 3 * elements } else { 0 }, bytes: elements * (qkv_bytes + y_bytes) as u64 },
                });
            }
        }
        Ok(y)
    }
}

/// Returns whether rows of B T and heads of B N share an image.
fn overlap(rows: &Range<usize>, tokens: usize, bound: &Range<usize>, heads: usize) -> bool {
    rows.start / tokens <= (bound.end - 1) / heads && bound.start / heads <= (rows.end - 1) / tokens
}

/// Returns the kernel for heads whose halves have `half` elements.
fn kernel(half: usize, rotate: bool, bf16: bool, [qkv, y]: [Elem; 2]) -> Kernel {
    let (part, width) = pack(half);
    Kernel {
        name: "rope",
        parts: vec![part, shared::BF16, include_str!("../../shaders/rope.wgsl")],
        constants: vec![
            ("LANES", LANES.into()),
            ("HALF", ((half / width) as u32).into()),
            ("ROTATE", rotate.into()),
            ("BF16", (rotate && bf16).into()),
            ("InPack", Constant::Elem(qkv, width)),
            ("OutPack", Constant::Elem(y, width)),
        ],
    }
}
