@group(0) @binding(2) var<storage, read_write> y: array<Y>; // [m, N]
@group(0) @binding(3) var<uniform> params: Params;

// y = x weight^T
fn store(row: u32, col: u32, sum: f32) {
    y[row * params.pitch + params.first + col] = Y(sum);
}
