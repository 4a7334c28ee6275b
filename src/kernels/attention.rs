//! Attention of every token to every other, fused: scores never leave the invocation that made them.

use std::ops::Range;

use super::cut::cut;
use super::rope::Heads;
use super::{LANES, Recorder, bytes, rows_of, words};
use crate::error::{Error, Result};
use crate::graph::{Cost, Dispatch, Kernel, Limits, TensorId};

/// Keys whose scores an invocation holds at a time.
const GROUP: u32 = 8;

/// Most keys staged in workgroup memory at a time.
const MOST_KEYS: u32 = 32;

/// Operations a score besides its products: maximum, exponential, sum.
const SOFTMAX_FLOPS: u64 = 4;

impl Recorder {
    /// `softmax(q k^T / sqrt D) v` of each head, [B, N, T, D] with D a multiple of 4, to [B, T, N D].
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn attention(&mut self, label: &str, Heads { q, k, v }: Heads) -> Result<TensorId> {
        let [batch, heads, tokens, head_dim] = self.shape(label, q);
        self.expect_len(label, k, batch * heads * tokens * head_dim);
        self.expect_len(label, v, batch * heads * tokens * head_dim);
        assert!(head_dim.is_multiple_of(4), "{label}: heads of {head_dim}");
        let kernel = kernel(label, &self.limits, head_dim as u32)?;
        let (c, lanes, most) = (heads * head_dim, LANES as usize, self.limits.max_workgroups as usize);
        let rows = cut(&self.limits, label, batch * tokens, &[c], most * lanes)?;
        let bound_heads = cut(&self.limits, label, batch * heads, &[tokens * head_dim], most)?;
        let y = self.result(label, [batch, tokens, c]);
        for rows in &rows {
            for bound in &bound_heads {
                for (tiles, head_tokens) in query_tiles(rows, bound, heads, tokens, most) {
                    let reads: Vec<_> = [q, k, v].iter().map(|&id| rows_of(id, bound, tokens * head_dim)).collect();
                    let write = rows_of(y, rows, c);
                    let scores = (head_tokens * tokens) as u64;
                    self.graph.push(Dispatch {
                        label: label.to_owned(),
                        kernel: kernel.clone(),
                        cost: Cost {
                            flops: scores * (4 * head_dim as u64 + SOFTMAX_FLOPS),
                            bytes: bytes(&reads[1..]) + 8 * (head_tokens * head_dim) as u64,
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

/// The runs of query tiles, no more than `most` each, that between them reach every query of the `bound` heads whose row of the result is
/// among `rows`; with each, how many such queries of all heads it reaches.
fn query_tiles(rows: &Range<usize>, bound: &Range<usize>, heads: usize, tokens: usize, most: usize) -> Vec<(Range<usize>, usize)> {
    let lanes = LANES as usize;
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

fn kernel(label: &str, limits: &Limits, head_dim: u32) -> Result<Kernel> {
    let (part, keys) = if limits.software {
        (include_str!("../../shaders/attention/keys_direct.wgsl"), MOST_KEYS)
    } else {
        // A key and its value.
        let fit = limits.workgroup_memory / (8 * head_dim) / GROUP * GROUP;
        (include_str!("../../shaders/attention/keys_tiled.wgsl"), fit.min(MOST_KEYS))
    };
    if keys == 0 {
        return Err(Error::gpu(format!(
            "{label}: {GROUP} keys and values of {head_dim} elements do not fit the {} bytes of this device's workgroup memory; use --backend cpu",
            limits.workgroup_memory
        )));
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    Ok(Kernel {
        name: "attention",
        parts: vec![include_str!("../../shaders/attention.wgsl"), part],
        constants: vec![
            ("LANES", LANES.into()),
            ("HEAD_DIM", head_dim.into()),
            ("KEYS", keys.into()),
            ("GROUP", GROUP.into()),
            ("SCALE", scale.into()),
        ],
    })
}
