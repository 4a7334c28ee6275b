//! The layer qkv, whose queries and keys are rotated by position.

use std::ops::Range;

use super::cut::{cut, rows_between_starts};
use super::gemm::Tile;
use super::heads::Heads;
use super::matmul::operands;
use super::{Recorder, rows_of, shared, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Constant, Cost, Dispatch, Elem, Kernel, Limits, TensorId, Tier};

/// How queries and keys are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Sines, then cosines, of the last P tokens [2, P, D/2].
    pub table: TensorId,
    /// Number of heads, N.
    pub heads: usize,
    /// Whether queries and keys (of all tokens), each product and each sum are rounded to bf16, nearest even.
    pub bf16: bool,
}

/// The layer while it is recorded.
#[derive(Clone, Copy)]
struct Layer<'a> {
    label: &'a str,
    x: TensorId,
    weight: TensorId,
    bias: Option<TensorId>,
    rotation: Rotation,
    /// Number of tokens of an image, T.
    tokens: usize,
    /// Number of cls and storage tokens, which are not rotated.
    prefix: usize,
    head_dim: usize,
    /// Length of x's rows, K.
    k: usize,
    y: TensorId,
    tile: Tile,
}

/// The part of a result that dispatches bind.
struct Bound {
    /// Of queries, keys and values.
    parts: Range<usize>,
    /// Of B N heads.
    heads: Range<usize>,
    /// Elements from one part to the next.
    part_pitch: usize,
    /// The first element of the result that is bound, and how many are.
    elements: (usize, usize),
}

impl Recorder {
    /// Computes the layer qkv: x [B, T, K] and `weight` [3C, K], whose rows are q, k, v, each N heads of D, give three of [B,
    /// N, T, D]. Adds `bias`, of 3C values, if there is one. Rotates q and k of the last P tokens, and leaves v as it is. D is a
    /// multiple of four. The results' elements are [`Recorder::elem`]. [`Heads::source`] has the order of those of q and k.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn rope(&mut self, label: &str, x: TensorId, weight: TensorId, bias: Option<TensorId>, rotation: Rotation) -> Result<Heads> {
        let [batch, tokens, k] = self.shape(label, x);
        let [two, patches, half] = self.shape(label, rotation.table);
        let (heads, head_dim) = (rotation.heads, 2 * half);
        let n = 3 * heads * head_dim;
        assert_eq!(two, 2, "{label}: a table of sines and cosines");
        assert!(head_dim.is_multiple_of(4), "{label}: heads of {head_dim}");
        assert!((1..=tokens).contains(&patches), "{label}: a table of {patches} patches for {tokens} tokens");
        self.expect_len(label, weight, n * k);
        self.expect_f32(label, &[rotation.table]);
        bias.iter().for_each(|&id| self.expect_len(label, id, n));
        bias.iter().for_each(|&id| self.expect_f32(label, &[id]));

        let (elem, len) = (self.elem(), batch * heads * tokens * head_dim);
        // Queries, keys and values each begin where a binding may.
        let pitch = len.next_multiple_of((self.limits.alignment as usize / elem.bytes()).max(1));
        let y = self.result_of(elem, label, [2 * pitch + len]);
        let tile = self.tile_of_pairs(self.elem_of(x), [batch * tokens, n, k], half);
        let layer = Layer { label, x, weight, bias, rotation, tokens, prefix: tokens - patches, head_dim, k, y, tile };
        for bound in self.bound(&layer, batch, pitch)? {
            self.record_bound(&layer, &bound)?;
        }
        Ok(Heads { shape: [batch, heads, tokens, head_dim], parts: [0, 1, 2].map(|part| (y, part * pitch)), run: tile.pair_pitch() })
    }

    /// Returns the tile for a product whose invocations have both elements of the pairs (i, i + `half`).
    fn tile_of_pairs(&self, elem: Elem, sizes: [usize; 3], half: usize) -> Tile {
        let tile = Tile::choose(&self.limits, elem, sizes);
        if half.is_multiple_of(tile.pair_pitch()) {
            return tile;
        }
        Tile::choose(&Limits { tier: Tier::Baseline, ..self.limits }, elem, sizes)
    }

    /// Cuts the result into views that can be bound: all of it, or some heads of queries, keys or values.
    fn bound(&self, layer: &Layer, batch: usize, pitch: usize) -> Result<Vec<Bound>> {
        let (heads, head, len) = (batch * layer.rotation.heads, layer.tokens * layer.head_dim, self.graph.info(layer.y).len());
        let bytes = self.elem().bytes();
        if len * bytes <= self.limits.max_binding as usize {
            return Ok(vec![Bound { parts: 0..3, heads: 0..heads, part_pitch: pitch, elements: (0, len) }]);
        }
        let pieces = cut(&self.limits, layer.label, heads, &[head * bytes], usize::MAX, usize::MAX)?;
        let of_part = |part: usize, heads: Range<usize>| Bound {
            parts: part..part + 1,
            part_pitch: 0,
            elements: (part * pitch + heads.start * head, heads.len() * head),
            heads,
        };
        Ok((0..3).flat_map(|part| pieces.iter().map(move |heads| of_part(part, heads.clone()))).collect())
    }

    /// Records the dispatches that write a part of the result.
    fn record_bound(&mut self, layer: &Layer, bound: &Bound) -> Result<()> {
        let (all, k) = (layer.rotation.heads, layer.k);
        let [x_bytes, weight_bytes] = [layer.x, layer.weight].map(|id| self.elem_of(id).bytes());
        let n = 3 * all * layer.head_dim;
        let (most_rows, most_cols) = layer.tile.reach(&self.limits);
        // The rows of the images that have bound heads. A binding may have to begin some rows before them.
        let (first, end) = (bound.heads.start / all * layer.tokens, bound.heads.end.div_ceil(all) * layer.tokens);
        let is_one_image = end - first <= layer.tokens;
        let step = rows_between_starts(&self.limits, k * x_bytes);
        let first = first / step * step;
        let row_cost = Cost { flops: product(&[2, n, k]), bytes: (k * x_bytes + n * self.elem().bytes()) as u64 };
        let wanted = self.affordable(row_cost, layer.tile.size.rows as usize);
        let rows = cut(&self.limits, layer.label, end - first, &[k * x_bytes], most_rows, wanted)?;
        // The weight is cut between heads, because pairs are inside of one.
        let of_head = [layer.head_dim * k * weight_bytes];
        let weights = cut(&self.limits, layer.label, 3 * all, &of_head, most_cols / layer.head_dim, usize::MAX)?;
        let columns = if bound.parts.len() == 1 && is_one_image {
            let image = bound.heads.start / all * all;
            bound.parts.start * all + bound.heads.start - image..bound.parts.start * all + bound.heads.end - image
        } else {
            bound.parts.start * all..bound.parts.end * all
        };
        for rows in rows.iter().map(|rows| first + rows.start..first + rows.end) {
            for weight in &weights {
                let columns = columns.start.max(weight.start)..columns.end.min(weight.end);
                if !columns.is_empty() {
                    self.record_piece(layer, bound, &rows, weight, &columns);
                }
            }
        }
        Ok(())
    }

    /// Records the dispatch of `rows` of x by `columns`, in heads of 3 N. The heads `weight` of its rows are bound.
    fn record_piece(&mut self, layer: &Layer, bound: &Bound, rows: &Range<usize>, weight: &Range<usize>, columns: &Range<usize>) {
        let (d, k, y_elem) = (layer.head_dim, layer.k, self.elem());
        let mut reads = vec![rows_of(layer.x, rows, k), rows_of(layer.weight, weight, d * k), self.graph.whole(layer.rotation.table)];
        reads.extend(layer.bias.map(|bias| self.graph.whole(bias)));
        let n = columns.len() * d;
        let rotated = columns.end.min(2 * layer.rotation.heads).saturating_sub(columns.start) * d;
        self.push(Dispatch {
            label: layer.label.to_owned(),
            kernel: kernel(layer, [self.elem_of(layer.x), self.elem_of(layer.weight), y_elem]),
            cost: Cost {
                flops: product(&[2, rows.len(), n, k]) + product(&[3, rows.len(), rotated]),
                bytes: self.bytes(&reads) + product(&[rows.len(), n, y_elem.bytes()]),
            },
            reads,
            write: rows_of(layer.y, &(bound.elements.0..bound.elements.0 + bound.elements.1), 1),
            params: words(&[
                rows.len(),
                n,
                k,
                columns.start * d,
                weight.start * d,
                rows.start,
                layer.tokens,
                layer.prefix,
                bound.heads.start,
                bound.heads.len(),
                bound.part_pitch,
            ]),
            workgroups: layer.tile.workgroups(rows.len(), n),
        });
    }
}

fn kernel(layer: &Layer, [x, weight, y]: [Elem; 3]) -> Kernel {
    let stores_four = layer.tile.stores_four();
    let (pairs, width) = if stores_four {
        (include_str!("../../shaders/rope/pairs_vec4.wgsl"), 4)
    } else {
        (include_str!("../../shaders/rope/pairs_f32.wgsl"), 1)
    };
    let bias =
        if layer.bias.is_some() { include_str!("../../shaders/rope/bias.wgsl") } else { include_str!("../../shaders/rope/none.wgsl") };
    let mut parts = vec![include_str!("../../shaders/rope.wgsl"), pairs, bias, shared::BF16, operands(layer.k)];
    parts.extend(layer.tile.loop_parts());
    let mut constants = layer.tile.constants(layer.k);
    constants.extend([
        ("HEADS", (layer.rotation.heads as u32).into()),
        ("HEAD_DIM", (layer.head_dim as u32).into()),
        ("RUN", (layer.tile.pair_pitch() as u32).into()),
        ("BF16", layer.rotation.bf16.into()),
        ("X", x.into()),
        ("W", weight.into()),
        ("YPack", Constant::Elem(y, width)),
    ]);
    Kernel { name: "rope", parts, constants }
}
