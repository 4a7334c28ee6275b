//! `erf` and `exp` in f32 as straight polynomials, so that loops over them become SIMD; the library's own are calls.

/// Error function, to 3e-7 absolutely. The rational approximation `x P(x^2) / Q(x^2)` on [-4, 4] that Eigen and XLA use for f32.
pub fn erf(x: f32) -> f32 {
    const P: [f32; 7] = [-2.726_142_3e-10, 2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];
    const Q: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    let p = P.iter().fold(0.0, |sum, &coefficient| sum * x2 + coefficient);
    let q = Q.iter().fold(0.0, |sum, &coefficient| sum * x2 + coefficient);
    x * p / q
}

/// Exponential for x <= 0 (a softmax has no other), to 2e-7 relatively; below -87 it is 0.
///
/// `exp(x) = 2^n exp(r)` with n the integer nearest x / ln 2 and r = x - n ln 2 (ln 2 in two parts, after Cody and Waite); exp(r) is its Taylor polynomial
/// of degree 7, whose remainder at |r| <= ln 2 / 2 is 5e-9.
pub fn exp_nonpositive(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits: f32::round would be a call.
    const TO_INTEGER: f32 = 12_582_912.0;
    // A comparison, not `max`: a NaN must come through.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + TO_INTEGER;
    let n = shifted - TO_INTEGER;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let exp_r =
        [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0].iter().fold(0.0, |sum, &c: &f32| sum * r + c);
    let two_n = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { exp_r * two_n }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_keeps_its_stated_error() {
        let worst =
            (-60_000..=60_000).map(|i| i as f32 * 1e-4).map(|x| (f64::from(erf(x)) - libm::erf(f64::from(x))).abs()).fold(0.0, f64::max);
        assert!(worst <= 3e-7, "largest error {worst:e}");
    }

    #[test]
    fn exp_keeps_its_stated_error() {
        let relative = |x: f32| (f64::from(exp_nonpositive(x)) / f64::from(x).exp() - 1.0).abs();
        let worst = (0..=87_000).map(|i| relative(i as f32 * -1e-3)).fold(0.0, f64::max);
        assert!(worst <= 2e-7, "largest error {worst:e}");
        let exact = [(0.0, 1.0_f32), (-1e30, 0.0), (f32::NEG_INFINITY, 0.0)];
        assert!(exact.iter().all(|&(x, y)| exp_nonpositive(x).to_bits() == y.to_bits()));
        assert!(exp_nonpositive(f32::NAN).is_nan());
    }
}
