//! Layer normalisation of each row.

use std::ops::Range;

use super::cut::cut;
use super::{LANES, Recorder, pack, rows_of, shared, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Constant, Cost, Dispatch, Elem, Kernel, Limits, Operand, TensorId, Tier};

/// Operations per element: mean 1, moments of the centred row 4, result 4.
const FLOPS: u64 = 9;

/// The most packs of a row that an invocation keeps in registers: 32 f32. Software GPUs keep none, because the CPU's
/// caches hold the row.
const MOST_HELD: u32 = 8;

/// What the kernel does to a normalised element before it stores it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    Plain,
    Gelu,
}

/// A weight `[C]`, a bias `[C]`, and epsilon.
#[derive(Clone, Copy)]
struct Norm {
    weight: TensorId,
    bias: TensorId,
    eps: f32,
}

/// The columns that patches of [B, T, C] are written to, so that several layers fill one tensor side by side without a
/// copy.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The patches, numbered over the batch. The last tokens of each image are its patches.
    pub patches: Range<usize>,
    /// Number of patches per image.
    pub of_each: usize,
    /// [patches, N C], made by [`Recorder::joined`].
    pub joined: TensorId,
    /// The first of the C columns.
    pub column: usize,
}

/// The rows of a dispatch: their number, the offsets of the first row in the bound x and y, and the stride between rows
/// of y. Offsets and stride are in elements.
struct Rows {
    count: usize,
    from: usize,
    to: usize,
    pitch: usize,
}

impl Recorder {
    /// Computes `(x - mean) / sqrt(var + eps) * weight + bias` of each row of x [.., C], with `weight` `[C]` and `bias`
    /// `[C]`. The result has x's shape, and elements of [`Recorder::elem`].
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn layernorm(&mut self, label: &str, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> Result<TensorId> {
        self.layernorm_as(self.elem(), label, x, weight, bias, eps)
    }

    /// Computes [`Recorder::layernorm`] with a result of type `elem`, such as f32 for an output.
    ///
    /// # Errors
    /// As [`Recorder::layernorm`].
    pub fn layernorm_as(&mut self, elem: Elem, label: &str, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> Result<TensorId> {
        let shape = self.graph.info(x).shape.clone();
        assert_eq!(shape.last(), self.graph.info(weight).shape.last(), "{label}: rows are as long as the weight");
        self.normalise(label, x, Norm { weight, bias, eps }, Finish::Plain, (elem, shape))
    }

    /// Computes [`Recorder::gelu`] of [`Recorder::layernorm`] over rows as long as `weight` `[C]`, whatever x's shape
    /// is. The result is [N, C] of [`Recorder::elem`].
    ///
    /// # Errors
    /// As [`Recorder::layernorm`].
    pub fn layernorm_gelu(&mut self, label: &str, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> Result<TensorId> {
        let c = self.graph.info(weight).len();
        let shape = vec![self.graph.info(x).len() / c, c];
        self.normalise(label, x, Norm { weight, bias, eps }, Finish::Gelu, (self.elem(), shape))
    }

    /// Computes [`Recorder::layernorm`] of patches of x [B, T, C] with `[weight, bias]`. Writes the result to columns
    /// that are part of longer rows.
    ///
    /// # Errors
    /// As [`Recorder::layernorm`].
    pub fn layernorm_patches(&mut self, label: &str, x: TensorId, [weight, bias]: [TensorId; 2], eps: f32, to: &Columns) -> Result<()> {
        let &Columns { ref patches, of_each, joined, column } = to;
        let [batch, tokens, c] = self.shape(label, x);
        let (_, pitch) = self.matrix(joined);
        self.expect_len(label, weight, c);
        self.expect_len(label, bias, c);
        self.expect_f32(label, &[weight, bias]);
        let (_, width) = pack(c);
        assert!(
            column.is_multiple_of(width) && pitch.is_multiple_of(width),
            "{label}: columns from {column} of {pitch}, {width} at a time"
        );
        self.expect_len(label, joined, patches.len() * pitch);
        let fits = patches.end <= batch * of_each && of_each <= tokens && column + c <= pitch;
        assert!(fits, "{label}: patches {patches:?}, {of_each} of {tokens} tokens, columns from {column} of {pitch}");
        let elems = [self.elem_of(x), self.elem_of(joined)];
        let (kernel, reach) = kernel(&self.limits, c, elems, Finish::Plain, eps);
        let most = self.limits.reach(reach);
        for image in patches.start / of_each..patches.end.div_ceil(of_each) {
            let of_image = patches.start.max(image * of_each)..patches.end.min((image + 1) * of_each);
            let first = (image + 1) * (tokens - of_each) + of_image.start;
            for piece in cut(&self.limits, label, of_image.len(), &[], most, usize::MAX)? {
                let (view, from) = self.around(x, (first + piece.start) * c..(first + piece.end) * c);
                let to = (of_image.start - patches.start + piece.start) * pitch + column;
                let rows = Rows { count: piece.len(), from, to, pitch };
                let write = self.graph.whole(joined);
                self.push_rows(label, (kernel.clone(), reach), [view, write], Norm { weight, bias, eps }, &rows);
            }
        }
        Ok(())
    }

    /// Normalises rows of x, each as long as the norm's weight, into a tensor of their own.
    fn normalise(&mut self, label: &str, x: TensorId, norm: Norm, finish: Finish, (elem, shape): (Elem, Vec<usize>)) -> Result<TensorId> {
        let c = self.graph.info(norm.weight).len();
        let rows = self.graph.info(x).len() / c;
        self.expect_len(label, x, rows * c);
        self.expect_len(label, norm.bias, c);
        self.expect_f32(label, &[norm.weight, norm.bias]);
        let elems = [self.elem_of(x), elem];
        let (kernel, reach) = kernel(&self.limits, c, elems, finish, norm.eps);
        let row_bytes = elems.map(|elem| c * elem.bytes());
        let wanted = self.affordable(Cost { flops: FLOPS * c as u64, bytes: row_bytes.iter().sum::<usize>() as u64 }, reach);
        let pieces = cut(&self.limits, label, rows, &row_bytes, self.limits.reach(reach), wanted)?;
        let y = self.result_of(elem, label, shape);
        for piece in pieces {
            let views = [rows_of(x, &piece, c), rows_of(y, &piece, c)];
            let rows = Rows { count: piece.len(), from: 0, to: 0, pitch: c };
            self.push_rows(label, (kernel.clone(), reach), views, norm, &rows);
        }
        Ok(y)
    }

    fn push_rows(&mut self, label: &str, (kernel, reach): (Kernel, usize), [x, y]: [Operand; 2], norm: Norm, rows: &Rows) {
        let c = self.graph.info(norm.weight).len();
        let (_, width) = pack(c);
        let moved = product(&[rows.count, c, self.elem_of(x.tensor).bytes() + self.elem_of(y.tensor).bytes()]);
        self.push(Dispatch {
            label: label.to_owned(),
            kernel,
            reads: vec![x, self.graph.whole(norm.weight), self.graph.whole(norm.bias)],
            write: y,
            params: words(&[rows.count, c / width, rows.from / width, rows.to / width, rows.pitch / width]),
            workgroups: [rows.count.div_ceil(reach) as u32, 1, 1],
            cost: Cost { flops: FLOPS * product(&[rows.count, c]), bytes: moved + 8 * c as u64 },
        });
    }
}

/// Returns the kernel for rows of `c` elements, and how many rows a workgroup computes.
fn kernel(limits: &Limits, c: usize, [x, y]: [Elem; 2], finish: Finish, eps: f32) -> (Kernel, usize) {
    let (part, width) = pack(c);
    let row_lanes = row_lanes(limits, c / width);
    let finish: &[&str] = match finish {
        Finish::Plain => &[include_str!("../../shaders/layernorm/plain.wgsl")],
        Finish::Gelu => &[shared::GELU, include_str!("../../shaders/layernorm/gelu.wgsl")],
    };
    let mut parts = vec![part, reduction(limits, row_lanes)];
    parts.extend(finish);
    parts.push(include_str!("../../shaders/layernorm.wgsl"));
    let (in_pack, out_pack) = (Constant::Elem(x, width), Constant::Elem(y, width));
    let mut constants =
        vec![("LANES", LANES.into()), ("ROW_LANES", row_lanes.into()), ("EPS", eps.into()), ("InPack", in_pack), ("OutPack", out_pack)];
    let packs = (c / width) as u32;
    let held = packs.div_ceil(row_lanes);
    if held <= MOST_HELD && limits.tier != Tier::Direct {
        constants.extend([("HELD", held.into()), ("WHOLE", packs.is_multiple_of(row_lanes).into())]);
        parts.push(include_str!("../../shaders/layernorm/held.wgsl"));
    } else {
        parts.push(include_str!("../../shaders/layernorm/streamed.wgsl"));
    }
    (Kernel { name: "layernorm", parts, constants }, (LANES / row_lanes) as usize)
}

/// Returns how many invocations share a row: enough that each has two packs, or one where kernels avoid barriers.
pub(super) fn row_lanes(limits: &Limits, packs: usize) -> u32 {
    if limits.tier == Tier::Direct {
        return 1;
    }
    let half = (packs as u32 / 2).clamp(1, LANES);
    1 << half.ilog2()
}

/// Returns the shared WGSL that sums over the invocations of a row in a workgroup.
pub(super) fn reduction(limits: &Limits, row_lanes: u32) -> &'static str {
    match limits.tier {
        _ if row_lanes == 1 => shared::REDUCE_ALONE,
        Tier::Subgroups | Tier::Cooperative8 | Tier::Cooperative16 if row_lanes == LANES => shared::REDUCE_SUBGROUPS,
        _ => shared::REDUCE,
    }
}
