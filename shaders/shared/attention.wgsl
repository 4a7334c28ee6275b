// The inputs and the parameters of attention. Each shader declares its result y at binding 3.
//
// The grid is query tiles from `first_tile` on, by bound heads. A dispatch skips the queries whose row of y is not bound, because another dispatch
// writes them. Keys past the end repeat the last one and score MASKED, whose exponential is 0. An infinite score would make NaN where the largest score
// is infinite as well.
struct Params {
    tokens: u32, // T
    heads: u32, // N
    first_head: u32, // first bound head of B N
    first_row: u32, // first bound row of B T of y
    rows: u32, // bound rows of y
    first_tile: u32,
    pad0: u32,
    pad1: u32,
}
@group(0) @binding(0) var<storage, read> q: array<vec4<X>>; // [bound heads, T, D]
@group(0) @binding(1) var<storage, read> k: array<vec4<X>>; // [bound heads, T, D]
@group(0) @binding(2) var<storage, read> v: array<vec4<X>>; // [bound heads, T, D]
@group(0) @binding(4) var<uniform> params: Params;

const D4: u32 = HEAD_DIM / 4u;
const MASKED: f32 = -1e30;
// exp(x SCALE) is exp2(x SCALE2).
const SCALE2: f32 = SCALE * 1.4426950408889634;
