// Each image's own patches, or the mask token where the mask is not zero.
@group(0) @binding(3) var<storage, read> mask: array<f32>; // [B, P]
@group(0) @binding(4) var<storage, read> mask_token: array<Pack>; // [C]
@group(0) @binding(5) var<storage, read_write> y: array<Pack>; // [rows, C]
@group(0) @binding(6) var<uniform> params: Params;

// Patch p of the batch, of which pack `pack` is at `place`.
fn token(p: u32, place: u32, pack: u32) -> Pack {
    if mask[p] != 0.0 {
        return mask_token[pack];
    }
    return patches[place];
}
