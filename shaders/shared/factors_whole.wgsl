// A tile holds a factor's elements as they are.
const PARTS: u32 = 1u;

fn x_parts(four: vec4<X>) -> array<vec4<F>, PARTS> {
    return array<vec4<F>, PARTS>(vec4<F>(four));
}

fn w_parts(four: vec4<W>) -> array<vec4<F>, PARTS> {
    return array<vec4<F>, PARTS>(vec4<F>(four));
}
