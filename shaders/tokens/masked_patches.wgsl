// Each image's own patches, or the mask token where the mask is not zero.
@group(0) @binding(0) var<storage, read> source: array<Pack>; // [count, C]
@group(0) @binding(1) var<storage, read> mask: array<f32>; // [B, S]
@group(0) @binding(2) var<storage, read> mask_token: array<Pack>; // [C]
@group(0) @binding(3) var<storage, read_write> y: array<Pack>; // [rows, C]
@group(0) @binding(4) var<uniform> params: Params;

fn token(i: u32, s: u32, pack: u32) -> Pack {
    if mask[params.first_source + i] != 0.0 {
        return mask_token[pack];
    }
    return source[i * params.packs + pack];
}
