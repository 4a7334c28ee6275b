//! Token assembly: cls, storage tokens, then patches, of which some may be masked.

use super::cut::cut;
use super::{LANES, Recorder, pack, rows_of, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, Operand, TensorId};

/// Patches of which the model sees only the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// [B, P]: not zero where a patch is masked.
    pub mask: TensorId,
    /// [1, C]: the token that replaces a masked patch.
    pub token: TensorId,
}

/// How the tokens of a tensor depend on the image.
#[derive(Clone, Copy)]
enum TokenKind {
    /// [S, C], the same tokens for each image.
    Shared,
    /// [B, S, C]
    Patches(Option<Mask>),
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
        self.expect_len(label, cls, c);
        self.expect_f32(label, &[patches, cls]);
        storage.iter().for_each(|&storage| self.expect_f32(label, &[storage]));
        storage.iter().for_each(|&storage| self.expect_len(label, storage, r * c));
        if let Some(Mask { mask, token }) = mask {
            self.expect_len(label, mask, batch * p);
            self.expect_len(label, token, c);
            self.expect_f32(label, &[mask, token]);
        }
        let y = self.result(label, [batch, 1 + r + p, c]);
        self.place(label, (cls, TokenKind::Shared), 1, 0, y)?;
        if let Some(storage) = storage {
            self.place(label, (storage, TokenKind::Shared), r, 1, y)?;
        }
        self.place(label, (patches, TokenKind::Patches(mask)), p, 1 + r, y)?;
        Ok(y)
    }

    /// Writes the `s` tokens of `source` into each image of y, from token `first` on.
    fn place(&mut self, label: &str, (source, kind): (TensorId, TokenKind), s: usize, first: usize, y: TensorId) -> Result<()> {
        let [batch, tokens, c] = self.shape(label, y);
        let (part, width) = pack(c);
        let most = self.limits.reach(LANES as usize) / (c / width);
        let sources = cut(&self.limits, label, batch * s, &[4 * c], most, self.affordable(Cost { flops: 0, bytes: 8 * c as u64 }, 1))?;
        let rows = cut(&self.limits, label, batch * tokens, &[4 * c], usize::MAX, usize::MAX)?;
        let row_of = |g: usize| g / s * tokens + first + g % s;
        for source_rows in &sources {
            for rows in &rows {
                if row_of(source_rows.start) >= rows.end || row_of(source_rows.end - 1) < rows.start {
                    continue;
                }
                let (source_part, reads) = match kind {
                    TokenKind::Shared => (include_str!("../../shaders/tokens/shared_rows.wgsl"), vec![self.graph.whole(source)]),
                    TokenKind::Patches(None) => (include_str!("../../shaders/tokens/patches.wgsl"), vec![rows_of(source, source_rows, c)]),
                    TokenKind::Patches(Some(Mask { mask, token })) => {
                        let views: Vec<Operand> = vec![rows_of(source, source_rows, c), self.graph.whole(mask), self.graph.whole(token)];
                        (include_str!("../../shaders/tokens/masked_patches.wgsl"), views)
                    }
                };
                let invocations = source_rows.len() * (c / width);
                self.push(Dispatch {
                    label: label.to_owned(),
                    kernel: Kernel {
                        name: "tokens",
                        parts: vec![part, include_str!("../../shaders/tokens.wgsl"), source_part],
                        constants: vec![("LANES", LANES.into())],
                    },
                    reads,
                    write: rows_of(y, rows, c),
                    params: words(&[c / width, tokens, s, first, source_rows.start, source_rows.len(), rows.start, rows.len()]),
                    workgroups: [invocations.div_ceil(LANES as usize) as u32, 1, 1],
                    cost: Cost { flops: 0, bytes: product(&[8, source_rows.len(), c]) },
                });
            }
        }
        Ok(())
    }
}
