//! Token assembly: cls, storage tokens, then patches, of which some may be masked.

use crate::tensor::Tensor;

/// Concatenates `cls` [1, 1, C], `storage` [1, R, C] and patches [B, P, C] to [B, T, C] with T = 1 + R + P. Where the
/// mask [B * P] is true, the `mask_token` [1, C] replaces the patch.
pub fn tokens(patches: &Tensor, cls: &Tensor, storage: Option<&Tensor>, masking: Option<(&[bool], &Tensor)>) -> Tensor {
    let &[batch, p, c] = patches.shape() else { panic!("patches are [B, P, C], not {:?}", patches.shape()) };
    let storage = storage.map_or(&[][..], Tensor::data);
    let t = 1 + storage.len() / c + p;
    let mut x = Vec::with_capacity(batch * t * c);
    for b in 0..batch {
        x.extend_from_slice(cls.data());
        x.extend_from_slice(storage);
        for (i, patch) in patches.data().chunks_exact(c).enumerate().skip(b * p).take(p) {
            x.extend_from_slice(match masking {
                Some((mask, token)) if mask[i] => token.data(),
                _ => patch,
            });
        }
    }
    Tensor::new([batch, t, c], x)
}
