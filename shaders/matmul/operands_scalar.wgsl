// For any K. Reads rows one element at a time and pads them with zeros. Without a loop over components, because FXC, a
// compiler of DX12, refuses it.
@group(0) @binding(0) var<storage, read> x: array<X>; // [m, K]
@group(0) @binding(1) var<storage, read> weight: array<W>; // [n, K]

// The places of elements 4 k4 to 4 k4 + 3 of a row. Past the row's end they are that of its last element.
fn places(row: u32, k4: u32) -> vec4<u32> {
    return row * params.k + min(vec4<u32>(4u * k4) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.k - 1u));
}

fn padded(four: vec4<f32>, k4: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), four, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.k - 4u * k4));
}

fn load_x(row: u32, k4: u32) -> vec4<f32> {
    let at = places(row, k4);
    return padded(vec4<f32>(vec4(x[at.x], x[at.y], x[at.z], x[at.w])), k4);
}

fn load_w(col: u32, k4: u32) -> vec4<f32> {
    let at = places(weight_row(col), k4);
    return padded(vec4<f32>(vec4(weight[at.x], weight[at.y], weight[at.z], weight[at.w])), k4);
}
