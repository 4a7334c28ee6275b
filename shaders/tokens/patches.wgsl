// Each image's own patches.
@group(0) @binding(0) var<storage, read> source: array<Pack>; // [count, C]
@group(0) @binding(1) var<storage, read_write> y: array<Pack>; // [rows, C]
@group(0) @binding(2) var<uniform> params: Params;

fn token(i: u32, s: u32, pack: u32) -> Pack {
    return source[i * params.packs + pack];
}
