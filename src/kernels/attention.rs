//! Attention of every token to every other, fused: scores never leave the invocation that made them.

use std::ops::Range;

use super::cut::cut;
use super::gemm::{matrices, pitch};
use super::rope::Heads;
use super::{LANES, Recorder, rows_of, words};
use crate::error::{Error, Result};
use crate::graph::{Cost, Dispatch, Elem, Kernel, Limits, TensorId};

/// Keys whose scores an invocation holds at a time.
const GROUP: u32 = 8;

/// Most keys staged in workgroup memory at a time.
const MOST_KEYS: u32 = 32;

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
        let (kernel, queries) = match cooperative(&self.limits, head_dim as u32, elems) {
            Some(kernel) => kernel,
            None if self.limits.software => direct(head_dim as u32, elems),
            None => (kernel(label, &self.limits, head_dim as u32, elems)?, LANES as usize),
        };
        let (c, most) = (heads * head_dim, self.limits.max_workgroups as usize);
        let score_flops = 4 * head_dim as u64 + SOFTMAX_FLOPS;
        // Tiles of queries, each of one head.
        let wanted = self.affordable(Cost { flops: (queries * tokens) as u64 * score_flops, bytes: 0 }, 1);
        let rows = cut(&self.limits, label, batch * tokens, &[c * y_bytes], most * queries, usize::MAX)?;
        let bound_heads = cut(&self.limits, label, batch * heads, &[tokens * head_dim * head_bytes], most, wanted)?;
        let y = self.result_of(elems[1], label, [batch, tokens, c]);
        for rows in &rows {
            for bound in &bound_heads {
                let most = most.min((wanted / bound.len()).max(1));
                for (tiles, head_tokens) in query_tiles(rows, bound, heads, tokens, [queries, most]) {
                    let reads: Vec<_> = [q, k, v].iter().map(|&id| rows_of(id, bound, tokens * head_dim)).collect();
                    let write = rows_of(y, rows, c);
                    let scores = (head_tokens * tokens) as u64;
                    self.graph.push(Dispatch {
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
        let tiles = start..end.min(start + most);
        let count = |(queries, shared): &(Range<usize>, usize)| {
            queries.end.min(tiles.end * lanes).saturating_sub(queries.start.max(tiles.start * lanes)) * shared
        };
        let head_tokens = reached.iter().map(count).sum();
        (tiles, head_tokens)
    };
    (first..end).step_by(most).map(run).collect()
}

/// The kernel by cooperative matrices, and how many queries a workgroup does; `None` where tier, head or memory do not allow it.
fn cooperative(limits: &Limits, head_dim: u32, [heads, y]: [Elem; 2]) -> Option<(Kernel, usize)> {
    let side = limits.tier.cooperative().filter(|_| !limits.software)?;
    if !head_dim.is_multiple_of(side) || limits.subgroup_size < side {
        return None;
    }
    let (pitch, elem) = (pitch(head_dim, heads), heads.bytes() as u32);
    let memory = |queries: u32, keys: u32| (queries + 2 * keys) * pitch * elem + queries * keys * (4 + elem);
    let fits = |&(subgroups, keys): &(u32, u32)| {
        memory(subgroups * side, keys) <= limits.workgroup_memory && subgroups * limits.subgroup_size <= limits.max_invocations
    };
    let (subgroups, keys) = [(4, 32), (2, 32), (4, 16), (2, 16), (1, 16)].into_iter().find(fits)?;
    let mut constants = vec![
        ("HEAD_DIM", head_dim.into()),
        ("PITCH", pitch.into()),
        ("KEYS", keys.into()),
        ("SUBGROUPS", subgroups.into()),
        ("SUBGROUP_SIZE", limits.subgroup_size.into()),
        ("SCALE", (1.0 / (head_dim as f32).sqrt()).into()),
        ("X", heads.into()),
        ("Y", y.into()),
    ];
    constants.extend(matrices(side, heads));
    let parts = vec![include_str!("../../shaders/attention/cooperative.wgsl")];
    Some((Kernel { name: "attention", parts, constants }, (subgroups * side) as usize))
}

/// The kernel without barriers, for software GPUs, and how many queries a workgroup does: its invocations become the lanes of vector
/// instructions, each with its own queries. More of them would be faster still, but drivers take many seconds to compile that.
fn direct(head_dim: u32, [heads, y]: [Elem; 2]) -> (Kernel, usize) {
    let (lanes, queries): (u32, u32) = (8, (256 / head_dim).clamp(1, 4));
    let constants = vec![
        ("LANES", lanes.into()),
        ("QUERIES", queries.into()),
        ("HEAD_DIM", head_dim.into()),
        ("GROUP", 4u32.into()),
        ("SCALE", (1.0 / (head_dim as f32).sqrt()).into()),
        ("X", heads.into()),
        ("Y", y.into()),
    ];
    let parts = vec![include_str!("../../shaders/attention/direct.wgsl")];
    (Kernel { name: "attention", parts, constants }, (lanes * queries) as usize)
}

fn kernel(label: &str, limits: &Limits, head_dim: u32, [heads, y]: [Elem; 2]) -> Result<Kernel> {
    // A key and its value.
    let fit = limits.workgroup_memory / (2 * heads.bytes() as u32 * head_dim) / GROUP * GROUP;
    let keys = fit.min(MOST_KEYS);
    if keys == 0 {
        return Err(Error::gpu(format!(
            "{label}: {GROUP} keys and values of {head_dim} elements do not fit the {} bytes of this device's workgroup memory; use --backend cpu",
            limits.workgroup_memory
        )));
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    Ok(Kernel {
        name: "attention",
        parts: vec![include_str!("../../shaders/attention.wgsl"), include_str!("../../shaders/attention/keys_tiled.wgsl")],
        constants: vec![
            ("LANES", LANES.into()),
            ("HEAD_DIM", head_dim.into()),
            ("KEYS", keys.into()),
            ("GROUP", GROUP.into()),
            ("SCALE", scale.into()),
            ("X", heads.into()),
            ("Y", y.into()),
        ],
    })
}
