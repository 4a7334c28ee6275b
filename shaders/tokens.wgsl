// Token assembly: y [B, T, C] = cls | storage tokens | patches, for each image.
//
// Invocation i computes pack i of the dispatch's `rows` tokens, which are counted over the batch, from `first_row` on.
struct Params {
    packs: u32, // C / PACK
    tokens: u32, // T
    storage: u32, // R
    first_row: u32, // first token of this dispatch
    rows: u32, // tokens of this dispatch
    first_patch: u32, // first patch of this dispatch, counted over the batch
    first_pack: u32, // its place in `patches`
}
@group(0) @binding(0) var<storage, read> cls: array<Pack>; // [C]
@group(0) @binding(1) var<storage, read> storage_tokens: array<Pack>; // [R, C]
@group(0) @binding(2) var<storage, read> patches: array<Pack>; // the dispatch's, [.., C]

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x / params.packs;
    if row >= params.rows {
        return;
    }
    let pack = id.x % params.packs;
    let b = (params.first_row + row) / params.tokens;
    let t = (params.first_row + row) % params.tokens;
    let prefix = 1u + params.storage;
    if t == 0u {
        y[id.x] = cls[pack];
    } else if t < prefix {
        y[id.x] = storage_tokens[(t - 1u) * params.packs + pack];
    } else {
        let p = b * (params.tokens - prefix) + t - prefix;
        y[id.x] = token(p, params.first_pack + (p - params.first_patch) * params.packs + pack, pack);
    }
}
