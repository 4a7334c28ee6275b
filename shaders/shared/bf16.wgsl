// Rounds each element of x to the nearest bf16, ties to even, as f32. The rounding uses bits, so that no driver's fast
// arithmetic can change it. A NaN stays a NaN.
fn round_bf16(x: Pack) -> Pack {
    let bits = bitcast<PackBits>(x);
    let odd = (bits >> PackBits(16u)) & PackBits(1u);
    let rounded = (bits + PackBits(0x7fffu) + odd) & PackBits(0xffff0000u);
    let is_nan = (bits & PackBits(0x7fffffffu)) > PackBits(0x7f800000u);
    return bitcast<Pack>(select(rounded, bits, is_nan));
}
