// A tile holds an f32 element as two f16: `high`, its first 11 significant bits, and `low`, the rest times 2^11. A product
// of two elements is high high + (high low + low high) / 2^11; low low is below the last bit of f32. (After Ootomo and
// Yokota 2022.) The error of an element is at most 2^-23 of it, or 2^-36. Elements beyond 65504 become NaN.
const PARTS: u32 = 2u;

// What f16 holds of an element: 11 significant bits, or multiples of 2^-24 below 2^-14. By integers, because a compiler may
// take a value that was converted to f16 and back for the value itself.
fn high_part(four: vec4<f32>) -> vec4<f32> {
    let rounded = bitcast<vec4<f32>>((bitcast<vec4<u32>>(four) + 0x1000u) & vec4<u32>(0xffffe000u));
    let small = vec4<f32>(vec4<i32>(four * 16777216.0)) / 16777216.0;
    return select(rounded, small, abs(four) < vec4<f32>(6.1035156e-5));
}

fn parts_of(four: vec4<f32>) -> array<vec4<F>, PARTS> {
    let high = high_part(four);
    return array<vec4<F>, PARTS>(vec4<F>(high), vec4<F>((four - high) * 2048.0));
}

fn x_parts(four: vec4<X>) -> array<vec4<F>, PARTS> {
    return parts_of(vec4<f32>(four));
}

fn w_parts(four: vec4<W>) -> array<vec4<F>, PARTS> {
    return parts_of(vec4<f32>(four));
}
