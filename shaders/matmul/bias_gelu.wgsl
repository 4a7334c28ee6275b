@group(0) @binding(2) var<storage, read> bias: array<Pack>; // [N]
@group(0) @binding(3) var<storage, read_write> y: array<YPack>; // [m, N]
@group(0) @binding(4) var<uniform> params: Params;

// y = gelu(x weight^T + bias)
fn finished(at: u32, n: u32, sum: Pack) -> Pack {
    return gelu(sum + bias[n]);
}
