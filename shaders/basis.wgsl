// scores[r, k] = sum over c of (tokens[r, c] - mean[c]) * directions[k, c], for COMPONENTS directions.
//
// ROW_LANES of a workgroup's LANES invocations share a row and stride over its C / PACK packs, for two directions at a
// time. Rows past the end repeat the last row and are not stored, because all invocations must take part in the sums.
@group(0) @binding(0) var<storage, read> tokens: array<Pack>; // [rows, C]
@group(0) @binding(1) var<storage, read> mean: array<Pack>; // [C]
@group(0) @binding(2) var<storage, read> directions: array<Pack>; // [COMPONENTS, C]
@group(0) @binding(3) var<storage, read_write> scores: array<f32>; // [rows, COMPONENTS]

struct Params {
    rows: u32,
    packs: u32, // C / PACK
    pad0: u32,
    pad1: u32,
}
@group(0) @binding(4) var<uniform> params: Params;

fn compute(group: vec3<u32>, lane: Lane) {
    let row = group.x * (LANES / ROW_LANES) + lane.index / ROW_LANES;
    let place = lane.index % ROW_LANES;
    let start = min(row, params.rows - 1u) * params.packs;

    for (var k = 0u; k < COMPONENTS; k += 2u) {
        // An odd last direction is computed twice.
        let second = min(k + 1u, COMPONENTS - 1u);
        var along = Pack(0.0);
        var along_second = Pack(0.0);
        for (var i = place; i < params.packs; i += ROW_LANES) {
            let deviation = tokens[start + i] - mean[i];
            along += deviation * directions[k * params.packs + i];
            along_second += deviation * directions[second * params.packs + i];
        }
        let sums = sum_over_lanes(lane, vec2<f32>(total(along), total(along_second)));
        if row < params.rows && place == 0u {
            scores[row * COMPONENTS + k] = sums.x;
            scores[row * COMPONENTS + second] = select(sums.x, sums.y, second > k);
        }
    }
}
