//! Token assembly: cls, storage tokens, then patches, some of them masked.

use crate::tensor::Tensor;
use crate::vit::weights::Weights;

/// patches [B, P, C] -> [B, T, C] with T = 1 + R + P. Where `mask` [B * P] is true, `mask_token` stands instead of the patch.
///
/// # Panics
/// If there is a mask but no `mask_token`.
pub fn tokens<L>(patches: &Tensor, weights: &Weights<Tensor, L>, mask: Option<&[bool]>) -> Tensor {
    let &[batch, p, c] = patches.shape() else { panic!("patches are [B, P, C], not {:?}", patches.shape()) };
    let storage = weights.storage_tokens.as_ref().map_or(&[][..], Tensor::data);
    let t = 1 + storage.len() / c + p;
    let mut x = Vec::with_capacity(batch * t * c);
    for b in 0..batch {
        x.extend_from_slice(weights.cls_token.data());
        x.extend_from_slice(storage);
        for (i, patch) in patches.data().chunks_exact(c).enumerate().skip(b * p).take(p) {
            let masked = mask.is_some_and(|mask| mask[i]);
            x.extend_from_slice(if masked { weights.mask_token.as_ref().expect("a mask needs a mask_token").data() } else { patch });
        }
    }
    Tensor::new([batch, t, c], x)
}
