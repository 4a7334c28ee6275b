//! The CPU's matrix product speed, measured with the `gemm` crate as a reference for our own products.

use std::time::Instant;

use meddino::cpu::InstructionSet;

/// Returns the FLOP/s of one large f32 product by the `gemm` crate with all threads, the best of ten tries.
///
/// None if meddino uses a lower instruction set than the best: `gemm` always uses the best, and two sets would be
/// compared.
pub fn flops_of_gemm() -> Option<f64> {
    (InstructionSet::of_this_cpu().next() == Some(InstructionSet::in_use())).then(measured)
}

/// The speed that [`flops_of_gemm`] returns.
fn measured() -> f64 {
    const SIDE: usize = 1024;
    const TRIES: usize = 10;
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let mut out = vec![0.0; SIDE * SIDE];
    let mut seconds = || {
        let started = Instant::now();
        product(&mut out, &a, &b, SIDE);
        started.elapsed().as_secs_f64()
    };
    let least = (0..TRIES).map(|_| seconds()).fold(f64::INFINITY, f64::min);
    2.0 * (SIDE as f64).powi(3) / least
}

/// Computes out = a b; all three are [side, side].
fn product(out: &mut [f32], a: &[f32], b: &[f32], side: usize) {
    assert!([out.len(), a.len(), b.len()] == [side * side; 3], "squares of {side}");
    let stride = side as isize;
    #[allow(unsafe_code, reason = "the crate's only interface takes pointers; the assertion above keeps every access inside the slices")]
    // SAFETY: each of the three holds side * side contiguous elements; out is borrowed mutably, so it overlaps neither.
    unsafe {
        let (out, a, b) = (out.as_mut_ptr(), a.as_ptr(), b.as_ptr());
        let all_threads = gemm_common::Parallelism::Rayon(0);
        let gemm = gemm_f32::gemm::f32::get_gemm_fn();
        gemm(side, side, side, out, 1, stride, false, a, 1, stride, b, 1, stride, 0.0, 1.0, false, false, false, all_threads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_computes_a_matrix_product() {
        let mut out = [9.0; 4];
        product(&mut out, &[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], 2);
        assert_eq!(out.map(|v| v as u32), [19, 22, 43, 50]);
        assert!(measured() > 1e6);
    }
}
