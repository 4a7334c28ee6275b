// y[r, :] = finish((x[r, :] - mean) / sqrt(var + EPS) * weight + bias), with mean and (biased) variance of row r over
// its C elements.
//
// ROW_LANES of a workgroup's LANES invocations share a row and stride over its C / PACK packs. A long row takes the
// whole workgroup; short rows share it. A first mean centres the row. The mean of the centred row estimates the first
// mean's rounding error; subtracting it corrects mean and variance (the corrected two-pass algorithm: Chan, Golub,
// LeVeque 1983). A one-pass variance, the difference of two large moments, would cancel. Rows of x are contiguous; rows
// of y may be parts of longer rows. Rows past the end repeat the last row and are not stored, because all invocations
// must take part in the sums.
//
// `main` is in layernorm/held.wgsl, which reads a row from memory once, or in layernorm/streamed.wgsl, which reads it
// three times.
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

struct Row {
    index: u32,
    start: u32, // its first pack in x
    result_start: u32, // its first pack in y
    place: u32, // the first pack of this invocation
}

fn row_of(group: u32, lane: u32) -> Row {
    let index = group * (LANES / ROW_LANES) + lane / ROW_LANES;
    let start = params.from_pack + min(index, params.rows - 1u) * params.packs;
    return Row(index, start, params.to_pack + index * params.pitch, lane % ROW_LANES);
}

fn width() -> f32 {
    return f32(params.packs * PACK);
}

// The mean estimated from the sums of this row's invocations.
fn mean_of(lane: Lane, sum: Pack) -> f32 {
    return sum_over_lanes(lane, vec2<f32>(total(sum), 0.0)).x / width();
}

// The corrected mean, and 1 / sqrt(var + EPS), from the sums of the row centred by its first mean.
fn mean_and_scale(lane: Lane, first_mean: f32, sum: Pack, squares: Pack) -> vec2<f32> {
    let moments = sum_over_lanes(lane, vec2<f32>(total(sum), total(squares))) / width();
    let variance = moments.y - moments.x * moments.x;
    var scale = 1.0 / sqrt(variance + EPS);
    if variance > 3.4e38 {
        // The sum of squares overflowed f32. Dividing by it would silently turn the row into its bias, so the row
        // becomes NaN.
        scale = bitcast<f32>(0x7fc00000u | params.rows);
    }
    return vec2<f32>(first_mean + moments.x, scale);
}

// Pack i of the result.
fn result(pack: Pack, i: u32, mean: f32, scale: f32) -> OutPack {
    return OutPack(finish((pack - mean) * scale * weight[i] + bias[i]));
}
