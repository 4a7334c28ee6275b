// For K that is a multiple of four. Reads rows four elements at a time.
@group(0) @binding(0) var<storage, read> x: array<vec4<X>>; // [m, K]
@group(0) @binding(1) var<storage, read> weight: array<vec4<W>>; // [n, K]

fn load_x(row: u32, k4: u32) -> vec4<f32> {
    return vec4<f32>(x[row * (params.k / 4u) + k4]);
}

fn load_w(col: u32, k4: u32) -> vec4<f32> {
    return vec4<f32>(weight[weight_row(col) * (params.k / 4u) + k4]);
}
