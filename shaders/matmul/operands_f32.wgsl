// Any K: rows are read one element at a time, and end in zeros.
@group(0) @binding(0) var<storage, read> x: array<f32>; // [m, K]
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [n, K]

fn load_x(row: u32, k4: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    for (var i = 0u; i < min(params.k - 4u * k4, 4u); i++) {
        four[i] = x[row * params.k + 4u * k4 + i];
    }
    return four;
}

fn load_w(col: u32, k4: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    for (var i = 0u; i < min(params.k - 4u * k4, 4u); i++) {
        four[i] = weight[col * params.k + 4u * k4 + i];
    }
    return four;
}
