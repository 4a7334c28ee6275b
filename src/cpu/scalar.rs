//! GELU and `exp` of one f32 as polynomials, so that the compiler vectorises loops over them. The standard library's
//! functions are calls.

/// `a * b + c`, rounded once if FUSED. Fusing halves the instructions on a machine that has one for it, and calls a
/// slow function elsewhere.
#[inline(always)]
#[allow(clippy::inline_always, reason = "see `simd`")]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with these coefficients, highest power first, at x.
#[inline(always)]
#[allow(clippy::inline_always, reason = "see `simd`")]
fn polynomial<const FUSED: bool, const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |sum, &coefficient| multiply_add::<FUSED>(sum, x, coefficient))
}

/// `x Phi(x) = x erfc(-x / sqrt 2) / 2`, the exact GELU, with an absolute error below 5e-7 and a relative error below
/// 5e-6, also for negative inputs, where `1 + erf` would cancel.
///
/// With z = |x| / sqrt 2 and t = 1 / (1 + 0.4 z), `erfc(z) = exp(-z^2) t P(t)`. P, of degree 7, is a minimax fit with a
/// relative error of 1.7e-7.
#[inline(always)]
#[allow(clippy::inline_always, reason = "see `simd`")]
pub fn gelu<const FUSED: bool>(x: f32) -> f32 {
    const P: [f32; 8] = [0.063_079_044, -0.343_721_7, 0.588_112_1, -0.275_384_58, 0.349_964_47, 0.160_084_62, 0.232_617_78, 0.225_248_04];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.4 * z);
    let half_tail = 0.5 * t * polynomial::<FUSED, 8>(P, t) * exp_nonpositive::<FUSED>(-z * z);
    x * if x > 0.0 { 1.0 - half_tail } else { half_tail }
}

/// Exponential for x <= 0, all that a softmax needs, with a relative error below 1e-7 down to -87. Below -88 the result
/// is 0.
///
/// `exp(x) = 2^n exp(r)` with n the integer nearest x / ln 2 and r = x - n ln 2 (ln 2 in two parts, after Cody and
/// Waite); exp(r) is `1 + r + r^2 P(r)`, where P, of degree 4, is a minimax fit for |r| <= ln 2 / 2 with a relative
/// error of 3e-9 (6e-8 in f32).
#[inline(always)]
#[allow(clippy::inline_always, reason = "see `simd`")]
pub fn exp_nonpositive<const FUSED: bool>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits. `f32::round` would be a call.
    const TO_INTEGER: f32 = 12_582_912.0;
    const EXP: [f32; 7] = [0.001_381_454, 0.008_368_745, 0.041_668_39, 0.166_665_21, 0.499_999_94, 1.0, 1.0];
    // Below -88, 2^n is 0. The code compares instead of calling `max`, so that a NaN is kept.
    let x = if x < -88.0 { -88.0 } else { x };
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, TO_INTEGER);
    let n = shifted - TO_INTEGER;
    let r = multiply_add::<FUSED>(n, -LN2_LOW, multiply_add::<FUSED>(n, -LN2_HIGH, x));
    // The low bits of `shifted` hold n; the shift drops the others. At n = -127 the bits are those of 0.
    let two_n = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    polynomial::<FUSED, 7>(EXP, r) * two_n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_keeps_its_stated_error() {
        check_gelu(gelu::<false>);
        check_gelu(gelu::<true>);
    }

    fn check_gelu(gelu: impl Fn(f32) -> f32) {
        let exact = |x: f32| f64::from(x) * 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
        let points = || (-80_000..=80_000).map(|i| i as f32 * 1e-4);
        let absolute = points().map(|x| (f64::from(gelu(x)) - exact(x)).abs()).fold(0.0, f64::max);
        assert!(absolute <= 5e-7, "largest error {absolute:e}");
        let relative = points().filter(|x| *x != 0.0).map(|x| (f64::from(gelu(x)) / exact(x) - 1.0).abs()).fold(0.0, f64::max);
        assert!(relative <= 5e-6, "largest relative error {relative:e}");
        assert!(gelu(f32::NAN).is_nan() && gelu(1e30) > 9e29 && gelu(-1e30) == 0.0);
    }

    #[test]
    fn exp_keeps_its_stated_error() {
        check_exp(exp_nonpositive::<false>);
    }

    #[test]
    #[cfg_attr(
        all(windows, target_env = "gnu"),
        ignore = "outside of the kernels, a fused product is a call of mingw's, which rounds twice"
    )]
    fn fused_exp_keeps_its_stated_error() {
        check_exp(exp_nonpositive::<true>);
    }

    fn check_exp(exp_nonpositive: impl Fn(f32) -> f32) {
        let relative = |x: f32| (f64::from(exp_nonpositive(x)) / f64::from(x).exp() - 1.0).abs();
        let worst = (0..87_000).map(|i| relative(i as f32 * -1e-3)).fold(0.0, f64::max);
        assert!(worst <= 1e-7, "largest error {worst:e}");
        let exact = [(0.0, 1.0_f32), (-1e30, 0.0), (f32::NEG_INFINITY, 0.0)];
        assert!(exact.iter().all(|&(x, y)| exp_nonpositive(x).to_bits() == y.to_bits()));
        assert!(exp_nonpositive(f32::NAN).is_nan());
    }
}
