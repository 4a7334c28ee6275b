// y[r, :] = finish((x[r, :] - mean) / sqrt(var + EPS) * weight + bias), with mean and (biased) variance of row r over
// its C elements.
//
// ROW_LANES of a workgroup's LANES invocations share a row and stride over its C / PACK packs. A long row takes the
// whole workgroup; short rows share it. A first mean centres the row. The mean of the centred row estimates the first
// mean's rounding error; subtracting it corrects mean and variance (the corrected two-pass algorithm: Chan, Golub,
// LeVeque 1983). A one-pass variance, the difference of two large moments, would cancel. Rows of x are contiguous; rows
// of y may be parts of longer rows. Rows past the end repeat the last row and are not stored, because all invocations
// must take part in the sums.
@group(0) @binding(0) var<storage, read> x: array<InPack>; // [rows, C]
@group(0) @binding(1) var<storage, read> weight: array<Pack>; // [C]
@group(0) @binding(2) var<storage, read> bias: array<Pack>; // [C]
@group(0) @binding(3) var<storage, read_write> y: array<OutPack>; // [rows, C], rows `pitch` apart

struct Params {
    rows: u32,
    packs: u32, // C / PACK
    from_pack: u32, // of x's first row
    to_pack: u32, // of y's first row
    pitch: u32, // packs from a row of y to the next
    pad0: u32,
    pad1: u32,
    pad2: u32,
}
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = group.x * (LANES / ROW_LANES) + lane.index / ROW_LANES;
    let place = lane.index % ROW_LANES;
    let start = params.from_pack + min(row, params.rows - 1u) * params.packs;
    let width = f32(params.packs * PACK);

    var sum = Pack(0.0);
    for (var i = place; i < params.packs; i += ROW_LANES) {
        sum += Pack(x[start + i]);
    }
    let first_mean = sum_over_lanes(lane, vec2<f32>(total(sum), 0.0)).x / width;

    sum = Pack(0.0);
    var squares = Pack(0.0);
    for (var i = place; i < params.packs; i += ROW_LANES) {
        let centred = Pack(x[start + i]) - first_mean;
        sum += centred;
        squares += centred * centred;
    }
    let moments = sum_over_lanes(lane, vec2<f32>(total(sum), total(squares))) / width;
    let mean = first_mean + moments.x;
    let variance = moments.y - moments.x * moments.x;

    if row < params.rows {
        var scale = 1.0 / sqrt(variance + EPS);
        if variance > 3.4e38 {
            // The sum of squares overflowed f32. Dividing by it would silently turn the row into its bias, so the row
            // becomes NaN.
            scale = bitcast<f32>(0x7fc00000u | params.rows);
        }
        let to = params.to_pack + row * params.pitch;
        for (var i = place; i < params.packs; i += ROW_LANES) {
            y[to + i] = OutPack(finish((Pack(x[start + i]) - mean) * scale * weight[i] + bias[i]));
        }
    }
}
