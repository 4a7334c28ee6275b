@group(0) @binding(2) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(3) var<storage, read> gamma: array<f32>; // [N]
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [m, N]
@group(0) @binding(5) var<storage, read_write> y: array<Y>; // [m, N]
@group(0) @binding(6) var<uniform> params: Params;

// y = residual + gamma (x weight^T + bias)
fn store(row: u32, col: u32, sum: f32) {
    let n = params.first + col;
    let at = row * params.pitch + n;
    y[at] = Y(residual[at] + gamma[n] * (sum + bias[n]));
}
