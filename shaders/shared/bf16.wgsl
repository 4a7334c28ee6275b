// Rounds x to the nearest bf16, ties to even, as an f32. The rounding uses bits, so that no driver's fast arithmetic
// can change it. A NaN stays a NaN.
fn round_bf16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u;
    return bitcast<f32>(select(rounded, bits, (bits & 0x7fffffffu) > 0x7f800000u));
}
