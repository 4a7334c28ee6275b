// y[i, j, k] = sum over a, b of down[i, a] across[j, b] f(x[top_i + a, left_j + b, k]), a separable resampling of an
// image of CHANNELS values a pixel, with f(v) = (clamp(v SCALE + SHIFT, LO, HI) - MEAN) / DIVISOR of the parameters.
//
// A row of `down` holds the first source row, the number of source rows, and their weights; `across` holds the same for
// columns. Without source rows or columns, y is 0. An invocation computes one pixel, summing over columns first and
// then over rows, in order.
@group(0) @binding(0) var<storage, read> x: array<f32>; // [.., height, width, CHANNELS]
@group(0) @binding(1) var<storage, read> down: array<f32>; // [rows of all pieces, DOWN]
@group(0) @binding(2) var<storage, read> across: array<f32>; // [cols, ACROSS]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, cols, CHANNELS]

struct Params {
    first: u32, // x's first element that counts
    height: u32,
    width: u32,
    from_row: u32, // of all of y
    rows: u32,
    cols: u32,
    scale: f32,
    shift: f32,
    lo: f32,
    hi: f32,
    mean: f32,
    divisor: f32,
}
@group(0) @binding(4) var<uniform> params: Params;

fn changed(v: f32) -> f32 {
    return (clamp(v * params.scale + params.shift, params.lo, params.hi) - params.mean) / params.divisor;
}

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.cols || id.y >= params.rows {
        return;
    }
    let down_at = (params.from_row + id.y) * DOWN;
    let across_at = id.x * ACROSS;
    let top = u32(down[down_at]);
    let left = u32(across[across_at]);
    let tall = min(u32(down[down_at + 1u]), DOWN - 2u);
    let wide = min(u32(across[across_at + 1u]), ACROSS - 2u);
    for (var k = 0u; k < CHANNELS; k++) {
        var sum = 0.0;
        for (var a = 0u; a < tall; a++) {
            let row = min(top + a, params.height - 1u) * params.width;
            var line = 0.0;
            for (var b = 0u; b < wide; b++) {
                let col = min(left + b, params.width - 1u);
                line += changed(x[params.first + (row + col) * CHANNELS + k]) * across[across_at + 2u + b];
            }
            sum += line * down[down_at + 2u + a];
        }
        y[(id.y * params.cols + id.x) * CHANNELS + k] = sum;
    }
}
