// y[r, :] = (x[r, :] - mean) / sqrt(var + EPS) * weight + bias, with mean and (biased) variance of row r over its C elements.
//
// One workgroup a row, its LANES invocations striding over the row's C / PACK packs. The row is centred by a first mean, whose error (of the
// size of the row's sum's) is the mean of the centred row: it mends the mean, and the variance, as in the corrected two-pass algorithm
// (Chan, Golub, LeVeque 1983). The difference of two large moments, in one pass, would cancel.
@group(0) @binding(0) var<storage, read> x: array<Pack>; // [rows, C]
@group(0) @binding(1) var<storage, read> weight: array<Pack>; // [C]
@group(0) @binding(2) var<storage, read> bias: array<Pack>; // [C]
@group(0) @binding(3) var<storage, read_write> y: array<OutPack>; // [rows, C]

struct Params {
    packs: u32, // C / PACK
    pad0: u32,
    pad1: u32,
    pad2: u32,
}
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let start = group.x * params.packs;
    let width = f32(params.packs * PACK);

    var sum = Pack(0.0);
    for (var i = lane.index; i < params.packs; i += LANES) {
        sum += x[start + i];
    }
    let first_mean = sum_over_lanes(lane, vec2<f32>(total(sum), 0.0)).x / width;

    sum = Pack(0.0);
    var squares = Pack(0.0);
    for (var i = lane.index; i < params.packs; i += LANES) {
        let centred = x[start + i] - first_mean;
        sum += centred;
        squares += centred * centred;
    }
    let moments = sum_over_lanes(lane, vec2<f32>(total(sum), total(squares))) / width;
    let mean = first_mean + moments.x;
    let variance = moments.y - moments.x * moments.x;

    let scale = 1.0 / sqrt(variance + EPS);
    for (var i = lane.index; i < params.packs; i += LANES) {
        y[start + i] = OutPack((x[start + i] - mean) * scale * weight[i] + bias[i]);
    }
}
