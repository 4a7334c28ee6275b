//! Attention of every token to every other, fused, so that scores never reach the device's memory.

use std::ops::Range;

use super::cut::cut;
use super::gemm::{factors, is_amd, matrices, parts};
use super::heads::Heads;
use super::{Recorder, rows_of, shared, words};
use crate::advice::CPU;
use crate::count::product;
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{AttentionTile, Cost, Dispatch, Elem, Kernel, Limits, TensorId, Tier};

/// Tiles for GPUs, as (queries, keys, queries and keys of an invocation). The first that fits is the default. Over heads of 64
/// elements it takes the 16 KiB of workgroup memory that every device has. The last two are for wider heads: with those 16
/// KiB, up to 224 elements and up to 480.
const BLOCKED: [[u32; 4]; 6] = [[64, 32, 4, 4], [64, 32, 4, 2], [64, 64, 4, 8], [32, 32, 4, 4], [32, 16, 4, 2], [32, 8, 4, 1]];

/// A tile for cooperative matrices: subgroups, blocks, keys in units of the matrices' side, whether values are turned, and
/// buffers.
type CooperativeTile = (u32, u32, u32, bool, u8);

/// Tiles for cooperative matrices. The first is the fastest on an NVIDIA H200 for 3141 tokens, the third for 1029: 12 heads
/// are 132 pairs of tiles of 48 queries, one pair for each of its cores. That card loads matrices as well by columns; AMD's
/// take eight times as many loads for values that are not turned, so [`FEWEST_LOADS`] comes first there, over f16. Those with
/// two buffers have half of the barriers. No card has timed them yet.
const COOPERATIVE: [CooperativeTile; 14] = [
    (4, 1, 1, false, 1),
    (6, 1, 2, false, 1),
    (3, 1, 2, false, 1),
    (4, 1, 2, false, 1),
    (3, 1, 1, false, 1),
    (8, 1, 1, false, 1),
    (4, 2, 1, false, 1),
    (4, 1, 1, true, 1),
    (4, 1, 2, true, 1),
    (4, 2, 1, true, 1),
    (4, 1, 1, false, 2),
    (3, 1, 1, false, 2),
    (4, 2, 1, false, 2),
    (4, 1, 1, true, 2),
];

/// The tile that takes the fewest instructions and loads for a product on AMD's RDNA3 (docs/kernels.md).
const FEWEST_LOADS: CooperativeTile = COOPERATIVE[9];

/// Operations per score in addition to its products: maximum, exponential, sum.
const SOFTMAX_FLOPS: u64 = 4;

impl Recorder {
    /// Computes `softmax(q k^T / sqrt D) v` of each head: `qkv`, each [B, N, T, D] with D a multiple of 4, gives [B, T, N D]
    /// of [`Recorder::elem`].
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn attention(&mut self, label: &str, qkv: Heads) -> Result<TensorId> {
        let [batch, heads, tokens, head_dim] = qkv.shape();
        assert!(head_dim.is_multiple_of(4), "{label}: heads of {head_dim}");
        let elems = [self.one_elem(label, &qkv.parts().map(|(id, _)| id)), self.elem()];
        let [head_bytes, y_bytes] = elems.map(Elem::bytes);
        let (kernel, queries) = kernel(label, &self.limits, batch * tokens, head_dim as u32, elems)?;
        let (c, most) = (heads * head_dim, self.limits.reach(1));
        let score_flops = 4 * head_dim as u64 + SOFTMAX_FLOPS;
        // Tiles of queries, each of one head.
        let wanted = self.affordable(Cost { flops: product(&[queries, tokens]).saturating_mul(score_flops), bytes: 0 }, 1);
        let rows = cut(&self.limits, label, batch * tokens, &[c * y_bytes], self.limits.reach(queries), usize::MAX)?;
        let bound_heads = cut(&self.limits, label, batch * heads, &[tokens * head_dim * head_bytes], most, wanted)?;
        let y = self.result_of(elems[1], label, [batch, tokens, c]);
        for rows in &rows {
            for bound in &bound_heads {
                let most = most.min((wanted / bound.len()).max(1));
                for (tiles, head_tokens) in query_tiles(rows, bound, heads, tokens, [queries, most]) {
                    let reads: Vec<_> = [0, 1, 2].map(|part| qkv.view(part, bound)).into();
                    let write = rows_of(y, rows, c);
                    let scores = product(&[head_tokens, tokens]);
                    self.push(Dispatch {
                        label: label.to_owned(),
                        kernel: kernel.clone(),
                        cost: Cost {
                            flops: scores * score_flops,
                            bytes: self.bytes(&reads[1..]) + product(&[head_tokens, head_dim, head_bytes + y_bytes]),
                        },
                        reads,
                        write,
                        params: words(&[tokens, heads, bound.start, rows.start, rows.len(), tiles.start]),
                        workgroups: [tiles.len() as u32, bound.len() as u32, 1],
                    });
                }
            }
        }
        Ok(y)
    }
}

/// Returns ranges of tiles of `lanes` queries, at most `most` tiles each. Together they cover every query of the
/// `bound` heads whose row of the result is among `rows`. Each range comes with the number of such queries that it
/// covers, over all heads.
fn query_tiles(
    rows: &Range<usize>,
    bound: &Range<usize>,
    heads: usize,
    tokens: usize,
    [lanes, most]: [usize; 2],
) -> Vec<(Range<usize>, usize)> {
    // For each image, its queries as a range of tokens, and the number of its bound heads.
    let reached: Vec<(Range<usize>, usize)> = (rows.start / tokens..rows.end.div_ceil(tokens))
        .map(|b| {
            let queries = rows.start.saturating_sub(b * tokens)..(rows.end - b * tokens).min(tokens);
            let shared = bound.end.min((b + 1) * heads).saturating_sub(bound.start.max(b * heads));
            (queries, shared)
        })
        .filter(|(_, shared)| *shared > 0)
        .collect();
    let Some(first) = reached.iter().map(|(queries, _)| queries.start / lanes).min() else { return vec![] };
    let end = reached.iter().map(|(queries, _)| queries.end.div_ceil(lanes)).max().unwrap_or(first);
    let run = |start: usize| {
        let tiles = start..end.min(start.saturating_add(most));
        let count = |(queries, shared): &(Range<usize>, usize)| {
            queries.end.min(tiles.end * lanes).saturating_sub(queries.start.max(tiles.start * lanes)) * shared
        };
        let head_tokens = reached.iter().map(count).sum();
        (tiles, head_tokens)
    };
    (first..end).step_by(most).map(run).collect()
}

/// Returns the tiles that a device may use for attention of heads of `head_dim` elements of type `elem`. The first is
/// the default. The list is empty if not even the smallest tile fits.
pub fn attention_tiles(limits: &Limits, head_dim: usize, elem: Elem) -> Vec<AttentionTile> {
    let head_dim = head_dim as u32;
    if limits.tier == Tier::Direct {
        return direct(head_dim);
    }
    let mut tiles = limits.tier.cooperative().map_or_else(Vec::new, |side| cooperative(limits, head_dim, side, elem));
    // Over f32 a device may be faster without matrices, which take three products for one.
    if tiles.is_empty() || elem == Elem::F32 {
        tiles.extend(blocked(limits, head_dim));
    }
    tiles
}

fn blocked(limits: &Limits, head_dim: u32) -> Vec<AttentionTile> {
    // Elements in f32. Either two buffers, each with a slice of queries, one of keys and 8 vec4s of padding, and behind them one
    // element for each query of each invocation; or weights and values (`tile` in attention.wgsl).
    let fits = |&[queries, keys, m, n]: &[u32; 4]| {
        let lanes = queries / m * (keys / n);
        let slices = 8 * ((queries + keys) * slice4(head_dim) + 8);
        let memory = 4 * (slices + m * lanes).max(keys * (queries + head_dim));
        memory <= limits.workgroup_memory && lanes <= limits.max_invocations
    };
    BLOCKED.into_iter().filter(fits).map(|[queries, keys, m, n]| AttentionTile::Blocked { queries, keys, sums: [m, n] }).collect()
}

/// Returns the vec4s of a query in a slice of blocked attention: the largest power of two up to 4 that divides D / 4.
fn slice4(head_dim: u32) -> u32 {
    1 << (head_dim / 4).trailing_zeros().min(2)
}

/// Returns the tiles for software GPUs, which run invocations as the lanes of vector instructions. More queries per
/// invocation would be faster still, but drivers would take many seconds to compile the kernel.
fn direct(head_dim: u32) -> Vec<AttentionTile> {
    let queries = (256 / head_dim).clamp(1, 4);
    let sizes = [(8, queries), (8, queries / 2), (16, queries / 2)];
    sizes.into_iter().filter(|&(_, queries)| queries > 0).map(|(lanes, queries)| AttentionTile::Direct { lanes, queries }).collect()
}

fn cooperative(limits: &Limits, head_dim: u32, side: u32, elem: Elem) -> Vec<AttentionTile> {
    // Several invocations share a query, and each has whole vec4s of a matrix's row.
    let share = limits.subgroup_size / side;
    if !head_dim.is_multiple_of(side) || share == 0 || !(side / 4).is_multiple_of(share) {
        return Vec::new();
    }
    // Keys and values, scores and weights, and 16 bytes that tell whether an offset grew.
    let memory = |(subgroups, blocks, keys, turned, buffers): CooperativeTile| {
        let (keys, row) = (keys * side, |elements: u32| (parts(elem) * elements / 4 + 2) * 8);
        let of_query = (keys / 4 + 2) * 16 + row(keys);
        let values = if turned { head_dim * row(keys) } else { keys * row(head_dim) };
        u32::from(buffers) * (keys * row(head_dim) + values + subgroups * blocks * side * of_query) + 16
    };
    let fits = |&tile: &CooperativeTile| memory(tile) <= limits.workgroup_memory && tile.0 * limits.subgroup_size <= limits.max_invocations;
    // Two blocks of queries in two parts each take more registers than an RDNA3 card has, and are slower on an NVIDIA H100.
    let held = |&(_, blocks, ..): &CooperativeTile| elem == Elem::F16 || blocks == 1;
    let tile =
        |(subgroups, blocks, keys, turned, buffers)| AttentionTile::Cooperative { subgroups, blocks, keys: keys * side, turned, buffers };
    let mut tiles = COOPERATIVE;
    if is_amd(limits) {
        tiles.sort_by_key(|tile| *tile != FEWEST_LOADS);
    }
    tiles.into_iter().filter(fits).filter(held).map(tile).collect()
}

/// Returns the shader's parts, in the order that attention/cooperative.wgsl gives.
fn cooperative_parts(buffers: u8) -> Vec<&'static str> {
    let queries = include_str!("../../shaders/attention/cooperative.wgsl");
    let scores = include_str!("../../shaders/attention/cooperative/scores.wgsl");
    let steps = include_str!("../../shaders/attention/cooperative/steps.wgsl");
    let softmax = include_str!("../../shaders/attention/cooperative/softmax.wgsl");
    let rescale = include_str!("../../shaders/attention/cooperative/rescale.wgsl");
    let products = include_str!("../../shaders/attention/cooperative/products.wgsl");
    let step_end = include_str!("../../shaders/attention/cooperative/step_end.wgsl");
    let results = include_str!("../../shaders/attention/cooperative/results.wgsl");
    match buffers {
        1 => vec![queries, scores, steps, softmax, rescale, products, scores, step_end, results],
        _ => vec![queries, scores, steps, rescale, softmax, products, scores, step_end, rescale, products, results],
    }
}

/// Returns the kernel for `rows` tokens, and how many queries a workgroup computes.
fn kernel(label: &str, limits: &Limits, rows: usize, head_dim: u32, [heads, y]: [Elem; 2]) -> Result<(Kernel, usize)> {
    let candidates = attention_tiles(limits, head_dim as usize, heads);
    let chosen = limits.tiles.of(rows).attention.filter(|tile| candidates.contains(tile));
    let Some(tile) = chosen.or(candidates.first().copied()) else {
        return Err(Error::gpu(
            GpuFailure::Unsupported,
            format!(
                "{label}: the smallest tile of heads of {head_dim} elements does not fit this device's {} bytes of workgroup memory and {} \
                 invocations of a workgroup; use {CPU}",
                limits.workgroup_memory, limits.max_invocations
            ),
        ));
    };
    let mut constants =
        vec![("HEAD_DIM", head_dim.into()), ("SCALE", (1.0 / (head_dim as f32).sqrt()).into()), ("X", heads.into()), ("Y", y.into())];
    let (parts, queries) = match tile {
        AttentionTile::Blocked { queries, keys, sums: [m, n] } => {
            constants.extend([("QUERIES", queries.into()), ("KEYS", keys.into()), ("ROWS", m.into()), ("COLS", n.into())]);
            constants.push(("SLICE4", slice4(head_dim).into()));
            (vec![shared::ATTENTION, include_str!("../../shaders/attention.wgsl")], queries)
        }
        AttentionTile::Direct { lanes, queries } => {
            constants.extend([("LANES", lanes.into()), ("QUERIES", queries.into()), ("GROUP", 4u32.into())]);
            (vec![shared::ATTENTION, include_str!("../../shaders/attention/direct.wgsl")], lanes * queries)
        }
        AttentionTile::Cooperative { subgroups, blocks, keys, turned, buffers } => {
            let side = limits.tier.cooperative().expect("a tier with cooperative tiles");
            constants.extend([
                ("KEYS", keys.into()),
                ("TURNED", turned.into()),
                ("BUFFERS", u32::from(buffers).into()),
                ("BLOCKS", blocks.into()),
                ("SUBGROUPS", subgroups.into()),
                ("SUBGROUP_SIZE", limits.subgroup_size.into()),
            ]);
            constants.extend(matrices(side));
            // The type of the softmax's weights before they become factors.
            constants.push(("W", Elem::F32.into()));
            let parts = [shared::ATTENTION, factors(heads)].into_iter().chain(cooperative_parts(buffers)).collect();
            (parts, subgroups * blocks * side)
        }
    };
    Ok((Kernel { name: "attention", parts, constants }, queries as usize))
}
