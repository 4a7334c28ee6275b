// For any K. Reads rows one element at a time and pads them with zeros.
@group(0) @binding(0) var<storage, read> x: array<X>; // [m, K]
@group(0) @binding(1) var<storage, read> weight: array<W>; // [n, K]

fn load_x(row: u32, k4: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    for (var i = 0u; i < min(params.k - 4u * k4, 4u); i++) {
        four[i] = f32(x[row * params.k + 4u * k4 + i]);
    }
    return four;
}

fn load_w(col: u32, k4: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    for (var i = 0u; i < min(params.k - 4u * k4, 4u); i++) {
        four[i] = f32(weight[weight_row(col) * params.k + 4u * k4 + i]);
    }
    return four;
}
