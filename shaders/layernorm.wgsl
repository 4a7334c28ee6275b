// y[r, :] = (x[r, :] - mean) / sqrt(var + EPS) * weight + bias, with mean and (biased) variance of row r over its C elements.
//
// One workgroup a row, its LANES invocations striding over the row's C / PACK packs. The variance is that of the centred row, in a pass of
// its own: the difference of two large moments would cancel.
@group(0) @binding(0) var<storage, read> x: array<Pack>; // [rows, C]
@group(0) @binding(1) var<storage, read> weight: array<Pack>; // [C]
@group(0) @binding(2) var<storage, read> bias: array<Pack>; // [C]
@group(0) @binding(3) var<storage, read_write> y: array<Pack>; // [rows, C]

struct Params {
    packs: u32, // C / PACK
    pad0: u32,
    pad1: u32,
    pad2: u32,
}
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = group.x * params.packs;
    let width = f32(params.packs * PACK);

    var sum = Pack(0.0);
    for (var i = lane; i < params.packs; i += LANES) {
        sum += x[start + i];
    }
    let mean = sum_over_lanes(lane, total(sum)) / width;

    var squares = Pack(0.0);
    for (var i = lane; i < params.packs; i += LANES) {
        let centred = x[start + i] - mean;
        squares += centred * centred;
    }
    let variance = sum_over_lanes(lane, total(squares)) / width;

    let scale = 1.0 / sqrt(variance + EPS);
    for (var i = lane; i < params.packs; i += LANES) {
        y[start + i] = (x[start + i] - mean) * scale * weight[i] + bias[i];
    }
}
