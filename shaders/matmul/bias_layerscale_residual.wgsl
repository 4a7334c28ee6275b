@group(0) @binding(2) var<storage, read> bias: array<Pack>; // [N]
@group(0) @binding(3) var<storage, read> gamma: array<Pack>; // [N]
@group(0) @binding(4) var<storage, read> residual: array<Pack>; // [m, N]
@group(0) @binding(5) var<storage, read_write> y: array<YPack>; // [m, N]
@group(0) @binding(6) var<uniform> params: Params;

// y = residual + gamma (x weight^T + bias)
fn store(row: u32, col: u32, sum: Pack) {
    let n = params.first + col;
    let at = (row * params.pitch + n) / PACK;
    y[at] = YPack(residual[at] + gamma[n / PACK] * (sum + bias[n / PACK]));
}
