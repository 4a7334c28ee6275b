//! Helpers that the benches share.

use meddino::Tensor;

/// Values in [-1, 1) that depend only on the seed.
pub fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    Tensor::new(shape, (0..shape.iter().product()).map(|_| next()).collect())
}
