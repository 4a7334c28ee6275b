// Rearranges one third of qkv (q, k or v) from token-major to head-major, and rotates it by position if ROTATE (q and
// k):
//     y[b, n, t, :] = x cos + rotate_half(x) sin, with x = qkv[b, t, part, n, :] and rotate_half([a | b]) = [-b | a]
// for patch tokens, t >= prefix; cls and storage tokens are not rotated. Halves are D/2 long and share their D/2
// angles. If BF16, x (of prefix tokens too), each product and the sum are rounded to bf16.
//
// An invocation computes one pack of pairs (i, i + D/2): four pairs if D/2 is a multiple of four, else one. HALF is D/2
// in packs, a constant because invocations divide by it. The grid's x covers the bound rows of qkv times HALF, its y
// the N heads. Another dispatch writes the heads that are not bound.
@group(0) @binding(0) var<storage, read> qkv: array<InPack>; // [rows, 3, N, D]
@group(0) @binding(1) var<storage, read> table: array<Pack>; // [2, P, D/2]: sines, cosines
@group(0) @binding(2) var<storage, read_write> y: array<OutPack>; // [bound heads of B N, T, D]

struct Params {
    tokens: u32, // T
    prefix: u32, // T - P
    heads: u32, // N
    part: u32, // 0, 1, 2: q, k, v
    first_row: u32, // first bound row of B T
    rows: u32, // bound rows
    first_head: u32, // first bound head of B N
    bound_heads: u32,
}
@group(0) @binding(3) var<uniform> params: Params;

fn rounded(x: Pack) -> Pack {
    if BF16 {
        return round_bf16(x);
    }
    return x;
}

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x % HALF;
    let bound_row = id.x / HALF;
    let row = params.first_row + bound_row;
    let image = row / params.tokens;
    let head = image * params.heads + id.y;
    if bound_row >= params.rows || head < params.first_head || head - params.first_head >= params.bound_heads {
        return;
    }
    let t = row - image * params.tokens;
    let source = ((bound_row * 3u + params.part) * params.heads + id.y) * 2u * HALF + i;
    let place = ((head - params.first_head) * params.tokens + t) * 2u * HALF + i;
    var a = Pack(qkv[source]);
    var b = Pack(qkv[source + HALF]);
    if ROTATE {
        a = rounded(a);
        b = rounded(b);
        if t >= params.prefix {
            let angle = (t - params.prefix) * HALF + i;
            let sin = table[angle];
            let cos = table[(params.tokens - params.prefix) * HALF + angle];
            let rotated = rounded(rounded(a * cos) + rounded(-b * sin));
            b = rounded(rounded(b * cos) + rounded(a * sin));
            a = rotated;
        }
    }
    y[place] = OutPack(a);
    y[place + HALF] = OutPack(b);
}
