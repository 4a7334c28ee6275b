// Token assembly, one source at a time: y[b, first + s, :] = token(b, s), with y [B, T, C] = cls | storage tokens |
// patches.
//
// Source rows are counted over the batch, g = b S + s. Invocation i computes pack i of the dispatch's `count` source
// rows from `first_source` on. Another dispatch writes the rows whose place is outside the bound part of y.
struct Params {
    packs: u32, // C / PACK
    tokens: u32, // T
    source_tokens: u32, // S
    first: u32, // place of the source's first token in T
    first_source: u32, // first source row of this dispatch
    count: u32, // source rows of this dispatch
    first_row: u32, // first bound row of y
    rows: u32, // bound rows of y
}

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x / params.packs;
    if i >= params.count {
        return;
    }
    let source = params.first_source + i;
    let b = source / params.source_tokens;
    let s = source % params.source_tokens;
    let row = b * params.tokens + params.first + s;
    if row < params.first_row || row - params.first_row >= params.rows {
        return;
    }
    let pack = id.x % params.packs;
    y[(row - params.first_row) * params.packs + pack] = token(i, s, pack);
}
