// Exact GELU, elementwise: gelu(x) = x Phi(x) = x erfc(-x / sqrt 2) / 2.
//
// WGSL has no erf. With z = |x| / sqrt 2 and t = 1 / (1 + 0.4 z),
//     erfc(z) = exp(-z^2) t P(t)
// where P, of degree 7, is a minimax fit of erfc(z) exp(z^2) / t over 0 <= z <= 7 with a relative error of 1.7e-7. The
// error is relative to erfc, so negative inputs, where 1 + erf cancels, lose no accuracy. In f32 the error of gelu is
// below 1e-6.
fn gelu(x: Pack) -> Pack {
    // Beyond 9 the tail is below the smallest f32. The bound keeps z^2 finite.
    let z = min(abs(x), Pack(14.0)) * 0.70710678;
    let t = 1.0 / (1.0 + 0.4 * z);
    var p = Pack(0.063079044);
    p = p * t - 0.34372169;
    p = p * t + 0.58811212;
    p = p * t - 0.27538458;
    p = p * t + 0.34996447;
    p = p * t + 0.16008462;
    p = p * t + 0.23261778;
    p = p * t + 0.22524804;
    let half_tail = 0.5 * t * p * exp(-z * z);
    return x * select(half_tail, 1.0 - half_tail, x > Pack(0.0));
}
