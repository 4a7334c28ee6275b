//! Rotary position embedding, and the change from token-major qkv to head-major q, k and v.

use half::bf16;
use rayon::prelude::*;

use crate::tensor::Tensor;
use crate::vit::config::RopePrecision;

/// qkv [B, T, 3C] -> [3, B, N, T, D]: q and k of the patch tokens rotated by the `table` [2, P, D/2] of sines and cosines, v as it is.
///
/// `y = x cos + rotate_half(x) sin` with rotate_half([a | b]) = [-b | a]. The first `prefix` tokens (cls and storage) are not rotated. Under
/// [`RopePrecision::Bf16`] q and k, prefix tokens too, are rounded to bf16, and so is each product and the sum.
pub fn rope(qkv: &Tensor, table: &Tensor, heads: usize, prefix: usize, precision: RopePrecision) -> Tensor {
    let &[batch, t, c3] = qkv.shape() else { panic!("qkv is [B, T, 3C], not {:?}", qkv.shape()) };
    let d = c3 / 3 / heads;
    let (sin, cos) = table.data().split_at(table.data().len() / 2);
    let round: fn(f32) -> f32 = match precision {
        RopePrecision::Bf16 => |x| bf16::from_f32(x).to_f32(),
        RopePrecision::F32 => |x| x,
    };
    let mut out = Tensor::zeros([3, batch, heads, t, d]);
    out.data_mut().par_chunks_mut(t * d).enumerate().for_each(|(plane, head)| {
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
    out
}

/// One head's row [D] by D/2 angles.
fn rotate(y: &mut [f32], sin: &[f32], cos: &[f32], round: fn(f32) -> f32) {
    let (a, b) = y.split_at_mut(sin.len());
    for (((a, b), s), c) in a.iter_mut().zip(b).zip(sin).zip(cos) {
        let (x, y) = (*a, *b);
        *a = round(round(x * c) + round(-y * s));
        *b = round(round(y * c) + round(x * s));
    }
}
