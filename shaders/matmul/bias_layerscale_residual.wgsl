@group(0) @binding(2) var<storage, read> bias: array<Pack>; // [N]
@group(0) @binding(3) var<storage, read> gamma: array<Pack>; // [N]
@group(0) @binding(4) var<storage, read> residual: array<Pack>; // [m, N]
@group(0) @binding(5) var<storage, read_write> y: array<YPack>; // [m, N]
@group(0) @binding(6) var<uniform> params: Params;

// y = residual + gamma (x weight^T + bias)
fn finished(at: u32, n: u32, sum: Pack) -> Pack {
    return residual[at] + gamma[n] * (sum + bias[n]);
}
