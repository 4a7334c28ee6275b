//! GELU, exact.

use rayon::prelude::*;

use super::simd;

/// `x Phi(x) = x (1 + erf(x / sqrt 2)) / 2` for each element, in place: the erf form, not the tanh approximation.
pub fn gelu(x: &mut [f32]) {
    const CHUNK: usize = 4096;
    x.par_chunks_mut(CHUNK).for_each(simd::gelu);
}
