// Each image's own patches.
@group(0) @binding(3) var<storage, read_write> y: array<Pack>; // [rows, C]
@group(0) @binding(4) var<uniform> params: Params;

// Patch p of the batch, of which pack `pack` is at `place`.
fn token(p: u32, place: u32, pack: u32) -> Pack {
    return patches[place];
}
