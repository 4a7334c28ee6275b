@group(0) @binding(2) var<storage, read> table: array<Pack>; // [2, P, D/2]: sines, cosines
@group(0) @binding(3) var<storage, read> bias: array<Pack>; // [3 N D]
@group(0) @binding(4) var<storage, read_write> y: array<YPack>; // [parts, bound heads of B N, T, D]
@group(0) @binding(5) var<uniform> params: Params;

fn biased(sum: Pack, n: u32) -> Pack {
    return sum + bias[n / PACK];
}
