//! Rotary position embedding, and the change from token-major qkv to head-major q, k and v.

use rayon::prelude::*;

use crate::tensor::Tensor;
use crate::vit::config::RopePrecision;

/// Rearranges qkv [B, T, 3C] to out [3, B, N, T, D], and rotates q and k of the patch tokens by the `table` [2, P, D/2]
/// of sines and cosines. v is unchanged.
///
/// `y = x cos + rotate_half(x) sin` with rotate_half([a | b]) = [-b | a]. The first `prefix` tokens (cls and storage)
/// are not rotated. Under [`RopePrecision::Bf16`], q and k of all tokens, each product and each sum are rounded to
/// bf16.
pub fn rope(qkv: &Tensor, table: &Tensor, heads: usize, prefix: usize, precision: RopePrecision, out: &mut Tensor) {
    match precision {
        RopePrecision::Bf16 => rotated(qkv, table, heads, prefix, round_to_bf16, out),
        RopePrecision::F32 => rotated(qkv, table, heads, prefix, |x| x, out),
    }
}

/// [`rope`], where `round` rounds each step.
fn rotated(qkv: &Tensor, table: &Tensor, heads: usize, prefix: usize, round: impl Fn(f32) -> f32 + Copy + Sync, out: &mut Tensor) {
    let &[batch, t, c3] = qkv.shape() else { panic!("qkv is [B, T, 3C], not {:?}", qkv.shape()) };
    let d = c3 / 3 / heads;
    let (sin, cos) = table.data().split_at(table.data().len() / 2);
    out.resize([3, batch, heads, t, d]).par_chunks_mut(t * d).enumerate().for_each(|(plane, head)| {
        let (part, b, n) = (plane / (batch * heads), plane / heads % batch, plane % heads);
        for (token, y) in head.chunks_exact_mut(d).enumerate() {
            let at = (b * t + token) * c3 + (part * heads + n) * d;
            y.copy_from_slice(&qkv.data()[at..at + d]);
            if part == 2 {
                continue;
            }
            y.iter_mut().for_each(|v| *v = round(*v));
            if let Some(patch) = token.checked_sub(prefix) {
                let angles = patch * d / 2..(patch + 1) * d / 2;
                rotate(y, &sin[angles.clone()], &cos[angles], round);
            }
        }
    });
}

/// The bf16 nearest to x, ties to even. Unlike `half`'s, the code has no branch, so that the compiler vectorises loops
/// over it.
#[inline]
fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000);
    if x.is_nan() { x } else { rounded }
}

/// Rotates one head's row [D] by D/2 angles.
#[inline]
fn rotate(y: &mut [f32], sin: &[f32], cos: &[f32], round: impl Fn(f32) -> f32) {
    let (a, b) = y.split_at_mut(sin.len());
    for (((a, b), s), c) in a.iter_mut().zip(b).zip(sin).zip(cos) {
        let (x, y) = (*a, *b);
        *a = round(round(x * c) + round(-y * s));
        *b = round(round(y * c) + round(x * s));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_rounded_as_half_rounds_it() {
        let edges =
            [0x3F80_8000, 0x3F81_8000, 0x3F80_7FFF, 0x3F80_8001, 0x7F7F_FFFF, 0xFF7F_FFFF, 0x7F80_0000, 0xFF80_0000, 0x0000_8000, 1];
        let spread = (0..100_000_u32).map(|i| i.wrapping_mul(2_654_435_761));
        for x in edges.into_iter().chain(spread).map(f32::from_bits).filter(|x| !x.is_nan()) {
            assert_eq!(round_to_bf16(x).to_bits(), half::bf16::from_f32(x).to_f32().to_bits(), "{x:e}");
        }
        assert!(round_to_bf16(f32::NAN).is_nan());
    }
}
