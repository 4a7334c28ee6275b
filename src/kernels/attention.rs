//! Attention of every token to every other, fused: scores never leave the invocation that made them.

use std::ops::Range;

use super::cut::cut;
use super::gemm::{matrices, pitch};
use super::rope::Heads;
use super::{Recorder, rows_of, words};
use crate::error::{Error, Result};
use crate::graph::{Cost, Dispatch, Elem, Kernel, Limits, Stage, TensorId};

/// Keys whose scores an invocation holds at a time.
const GROUP: u32 = 8;

/// For GPUs: invocations that share keys, and keys at a time. The first that fits is taken where none was tried.
const TILED: [Stage; 8] =
    [stage(64, 32), stage(64, 16), stage(64, 8), stage(32, 32), stage(128, 32), stage(32, 64), stage(64, 64), stage(128, 64)];

/// For cooperative matrices: subgroups, and keys at a time.
const COOPERATIVE: [Stage; 7] = [stage(4, 32), stage(2, 32), stage(4, 16), stage(2, 16), stage(1, 16), stage(4, 64), stage(2, 64)];

const fn stage(lanes: u32, keys: u32) -> Stage {
    Stage { lanes, keys }
}

/// Operations a score besides its products: maximum, exponential, sum.
const SOFTMAX_FLOPS: u64 = 4;

impl Recorder {
    /// `softmax(q k^T / sqrt D) v` of each head, [B, N, T, D] with D a multiple of 4, to [B, T, N D] of [`Recorder::elem`].
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn attention(&mut self, label: &str, Heads { q, k, v }: Heads) -> Result<TensorId> {
        let [batch, heads, tokens, head_dim] = self.shape(label, q);
        self.expect_len(label, k, batch * heads * tokens * head_dim);
        self.expect_len(label, v, batch * heads * tokens * head_dim);
        assert!(head_dim.is_multiple_of(4), "{label}: heads of {head_dim}");
        let elems = [self.one_elem(label, &[q, k, v]), self.elem()];
        let [head_bytes, y_bytes] = elems.map(Elem::bytes);
        let (kernel, queries) = kernel(label, &self.limits, batch * tokens, head_dim as u32, elems)?;
        let (c, most) = (heads * head_dim, self.limits.reach(1));
        let score_flops = 4 * head_dim as u64 + SOFTMAX_FLOPS;
        // Tiles of queries, each of one head.
        let wanted = self.affordable(Cost { flops: (queries * tokens) as u64 * score_flops, bytes: 0 }, 1);
        let rows = cut(&self.limits, label, batch * tokens, &[c * y_bytes], self.limits.reach(queries), usize::MAX)?;
        let bound_heads = cut(&self.limits, label, batch * heads, &[tokens * head_dim * head_bytes], most, wanted)?;
        let y = self.result_of(elems[1], label, [batch, tokens, c]);
        for rows in &rows {
            for bound in &bound_heads {
                let most = most.min((wanted / bound.len()).max(1));
                for (tiles, head_tokens) in query_tiles(rows, bound, heads, tokens, [queries, most]) {
                    let reads: Vec<_> = [q, k, v].iter().map(|&id| rows_of(id, bound, tokens * head_dim)).collect();
                    let write = rows_of(y, rows, c);
                    let scores = (head_tokens * tokens) as u64;
                    self.push(Dispatch {
                        label: label.to_owned(),
                        kernel: kernel.clone(),
                        cost: Cost {
                            flops: scores * score_flops,
                            bytes: self.bytes(&reads[1..]) + (head_tokens * head_dim * (head_bytes + y_bytes)) as u64,
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

/// The runs of tiles of `lanes` queries, no more than `most` tiles each, that between them reach every query of the `bound` heads whose row of the result is
/// among `rows`; with each, how many such queries of all heads it reaches.
fn query_tiles(
    rows: &Range<usize>,
    bound: &Range<usize>,
    heads: usize,
    tokens: usize,
    [lanes, most]: [usize; 2],
) -> Vec<(Range<usize>, usize)> {
    // Queries of one head, by image, as ranges of its tokens; the heads bound of that image.
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

/// How keys reach the invocations.
#[derive(Clone, Copy)]
enum Way {
    /// By cooperative matrices of this side, from workgroup memory.
    Cooperative(u32),
    /// Straight from the bindings, for software GPUs.
    Direct,
    /// From workgroup memory.
    Tiled,
}

/// The geometries that a device may use for attention of heads of `head_dim` elements of type `elem`; the first is for those that have not tried. None if
/// not even the smallest fits.
pub fn stages(limits: &Limits, head_dim: usize, elem: Elem) -> Vec<Stage> {
    ways(limits, head_dim as u32, elem).1
}

fn ways(limits: &Limits, head_dim: u32, elem: Elem) -> (Way, Vec<Stage>) {
    let bytes = elem.bytes() as u32;
    if let Some(side) =
        limits.tier.cooperative().filter(|side| !limits.software && head_dim.is_multiple_of(*side) && limits.subgroup_size >= *side)
    {
        let memory = |queries: u32, keys: u32| (queries + 2 * keys) * pitch(head_dim, elem) * bytes + queries * keys * (4 + bytes);
        let fits = |&Stage { lanes, keys }: &Stage| {
            memory(lanes * side, keys) <= limits.workgroup_memory && lanes * limits.subgroup_size <= limits.max_invocations
        };
        let found: Vec<Stage> = COOPERATIVE.into_iter().filter(fits).collect();
        if !found.is_empty() {
            return (Way::Cooperative(side), found);
        }
    }
    if limits.software {
        // An invocation is a lane of vector instructions. More queries each would be faster still, but drivers take many seconds to compile that.
        let queries = (256 / head_dim).clamp(1, 4);
        let fewer = [stage(8, queries / 2), stage(16, queries / 2)].into_iter().filter(|stage| stage.keys > 0);
        return (Way::Direct, std::iter::once(stage(8, queries)).chain(fewer).collect());
    }
    // A key and its value.
    let fits = |&Stage { lanes, keys }: &Stage| 2 * keys * head_dim * bytes <= limits.workgroup_memory && lanes <= limits.max_invocations;
    (Way::Tiled, TILED.into_iter().filter(fits).collect())
}

/// The kernel for `rows` tokens, and how many queries a workgroup does.
fn kernel(label: &str, limits: &Limits, rows: usize, head_dim: u32, [heads, y]: [Elem; 2]) -> Result<(Kernel, usize)> {
    let (way, stages) = ways(limits, head_dim, heads);
    let asked = limits.tiles.of(rows).stage;
    let Some(&stage) = stages.iter().find(|&&stage| Some(stage) == asked).or(stages.first()) else {
        return Err(Error::gpu(format!(
            "{label}: {GROUP} keys and values of {head_dim} elements do not fit the {} bytes of this device's workgroup memory; use --backend cpu",
            limits.workgroup_memory
        )));
    };
    let mut constants =
        vec![("HEAD_DIM", head_dim.into()), ("SCALE", (1.0 / (head_dim as f32).sqrt()).into()), ("X", heads.into()), ("Y", y.into())];
    let (parts, queries) = match way {
        Way::Cooperative(side) => {
            constants.extend([
                ("PITCH", pitch(head_dim, heads).into()),
                ("KEYS", stage.keys.into()),
                ("SUBGROUPS", stage.lanes.into()),
                ("SUBGROUP_SIZE", limits.subgroup_size.into()),
            ]);
            constants.extend(matrices(side, heads));
            (vec![include_str!("../../shaders/attention/cooperative.wgsl")], stage.lanes * side)
        }
        Way::Direct => {
            constants.extend([("LANES", stage.lanes.into()), ("QUERIES", stage.keys.into()), ("GROUP", 4u32.into())]);
            (vec![include_str!("../../shaders/attention/direct.wgsl")], stage.lanes * stage.keys)
        }
        Way::Tiled => {
            constants.extend([("LANES", stage.lanes.into()), ("KEYS", stage.keys.into()), ("GROUP", GROUP.into())]);
            (vec![include_str!("../../shaders/attention.wgsl"), include_str!("../../shaders/attention/keys_tiled.wgsl")], stage.lanes)
        }
    };
    Ok((Kernel { name: "attention", parts, constants }, queries as usize))
}
