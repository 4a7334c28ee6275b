//! Token assembly: cls, storage tokens, then patches, of which some may be masked.

use std::ops::Range;

use super::cut::cut;
use super::{LANES, Recorder, pack, rows_of, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, TensorId};

/// Patches of which the model sees only the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// [B, P]: not zero where a patch is masked.
    pub mask: TensorId,
    /// [1, C]: the token that replaces a masked patch.
    pub token: TensorId,
}

/// What the tokens [B, 1 + R + P, C] are assembled from.
struct Sources {
    cls: TensorId,
    storage: Option<TensorId>,
    patches: TensorId,
    mask: Option<Mask>,
    /// B, R, P and C.
    sizes: [usize; 4],
}

impl Recorder {
    /// Assembles the tokens [B, T, C] of `patches` [B, P, C]: `cls` [1, 1, C], `storage` [1, R, C], then the patches,
    /// with T = 1 + R + P.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn tokens(
        &mut self,
        label: &str,
        patches: TensorId,
        cls: TensorId,
        storage: Option<TensorId>,
        mask: Option<Mask>,
    ) -> Result<TensorId> {
        let [batch, p, c] = self.shape(label, patches);
        let r = storage.map_or(0, |storage| self.matrix(storage).0);
        let sources = Sources { cls, storage, patches, mask, sizes: [batch, r, p, c] };
        self.expect_sources(label, &sources);
        let (_, width) = pack(c);
        // A view of patches may begin up to an alignment before the first of them.
        let bindable = self.limits.max_binding.saturating_sub(self.limits.alignment) as usize / (4 * c);
        let most = (self.limits.reach(LANES as usize) / (c / width)).min(bindable);
        let wanted = self.affordable(Cost { flops: 0, bytes: 8 * c as u64 }, 1);
        let rows = cut(&self.limits, label, batch * (1 + r + p), &[4 * c], most, wanted)?;
        let y = self.result(label, [batch, 1 + r + p, c]);
        rows.into_iter().for_each(|rows| self.assemble(label, &sources, rows, y));
        Ok(y)
    }

    fn expect_sources(&self, label: &str, &Sources { cls, storage, patches, mask, sizes: [batch, r, p, c] }: &Sources) {
        let masking = mask.map(|Mask { mask, token }| [(mask, batch * p), (token, c)]);
        let expected = [(patches, batch * p * c), (cls, c)].into_iter().chain(storage.map(|storage| (storage, r * c)));
        for (id, len) in expected.chain(masking.into_iter().flatten()) {
            self.expect_len(label, id, len);
            self.expect_f32(label, &[id]);
        }
    }

    /// Writes these tokens, counted over the batch, of y.
    fn assemble(&mut self, label: &str, sources: &Sources, rows: Range<usize>, y: TensorId) {
        let [_, r, p, c] = sources.sizes;
        let ((part, width), tokens) = (pack(c), 1 + r + p);
        let patches_before = |row: usize| row / tokens * p + (row % tokens).saturating_sub(1 + r);
        let first_patch = patches_before(rows.start);
        // A view is never empty.
        let end_patch = patches_before(rows.end).max(first_patch + 1);
        let (patches, skipped) = self.around(sources.patches, first_patch * c..end_patch * c);
        let mut reads = vec![self.graph.whole(sources.cls), self.graph.whole(sources.storage.unwrap_or(sources.cls)), patches];
        let mut token = include_str!("../../shaders/tokens/patches.wgsl");
        if let Some(mask) = sources.mask {
            reads.extend([self.graph.whole(mask.mask), self.graph.whole(mask.token)]);
            token = include_str!("../../shaders/tokens/masked_patches.wgsl");
        }
        self.push(Dispatch {
            label: label.to_owned(),
            kernel: Kernel {
                name: "tokens",
                parts: vec![part, include_str!("../../shaders/tokens.wgsl"), token],
                constants: vec![("LANES", LANES.into())],
            },
            reads,
            write: rows_of(y, &rows, c),
            params: words(&[c / width, tokens, r, rows.start, rows.len(), first_patch, skipped / width]),
            workgroups: [(rows.len() * (c / width)).div_ceil(LANES as usize) as u32, 1, 1],
            cost: Cost { flops: 0, bytes: product(&[8, rows.len(), c]) },
        });
    }
}
