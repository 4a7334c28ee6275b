// cosines[r] = tokens[r, :] . query / (max(|tokens[r, :]|, EPS) max(|query|, EPS)), kept to [-1, 1].
//
// ROW_LANES of a workgroup's LANES invocations share a row and stride over its C / PACK packs. Rows past the end repeat
// the last row and are not stored, because all invocations must take part in the sums.
@group(0) @binding(0) var<storage, read> tokens: array<Pack>; // [rows, C]
@group(0) @binding(1) var<storage, read> query: array<Pack>; // [C]
@group(0) @binding(2) var<storage, read_write> cosines: array<f32>; // [rows]

struct Params {
    rows: u32,
    packs: u32, // C / PACK
    pad0: u32,
    pad1: u32,
}
@group(0) @binding(3) var<uniform> params: Params;

fn compute(group: vec3<u32>, lane: Lane) {
    let row = group.x * (LANES / ROW_LANES) + lane.index / ROW_LANES;
    let place = lane.index % ROW_LANES;
    let start = min(row, params.rows - 1u) * params.packs;

    var products = Pack(0.0);
    var squares = Pack(0.0);
    var query_squares = Pack(0.0);
    for (var i = place; i < params.packs; i += ROW_LANES) {
        let t = tokens[start + i];
        let q = query[i];
        products += t * q;
        squares += t * t;
        query_squares += q * q;
    }
    let sums = sum_over_lanes(lane, vec2<f32>(total(products), total(squares)));
    let query_square = sum_over_lanes(lane, vec2<f32>(total(query_squares), 0.0)).x;

    if row < params.rows && place == 0u {
        let lengths = max(sqrt(sums.y), EPS) * max(sqrt(query_square), EPS);
        cosines[row] = clamp(sums.x / lengths, -1.0, 1.0);
    }
}
