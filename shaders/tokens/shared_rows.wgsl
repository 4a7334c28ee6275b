// Cls or storage tokens: a parameter that all images of the batch share.
@group(0) @binding(0) var<storage, read> source: array<Pack>; // [S, C]
@group(0) @binding(1) var<storage, read_write> y: array<Pack>; // [rows, C]
@group(0) @binding(2) var<uniform> params: Params;

fn token(i: u32, s: u32, pack: u32) -> Pack {
    return source[s * params.packs + pack];
}
