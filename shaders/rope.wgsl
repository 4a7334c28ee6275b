// The layer qkv and rotary position embedding: queries, keys and values of every token by head, x weight^T + bias, with
// queries and keys rotated by position:
//     y = x cos + rotate_half(x) sin, with rotate_half([a | b]) = [-b | a]
// for patch tokens, t >= prefix; cls and storage tokens are not rotated. Halves are D/2 long and share their D/2
// angles. If BF16, queries and keys (of prefix tokens too), each product and the sum are rounded to bf16.
//
// An invocation must have both elements of a pair (i, i + D/2). So the rows of the weight are taken in another order:
// RUN first elements of pairs, then their RUN second ones, then the next RUN pairs. Queries and keys stay in that order, which
// changes no score. Values are in the order of the checkpoint.
//
// The other parts are rope/pairs_*.wgsl, which store; rope/bias.wgsl or rope/none.wgsl; matmul/operands_*.wgsl, which reads
// rows; and the loop over K in shared/gemm_*.wgsl. A dispatch may compute some columns only, from column `first` on, and
// skips the heads that are not bound, because another dispatch writes them.
const HALF: u32 = HEAD_DIM / 2u;
const WIDTH: u32 = HEADS * HEAD_DIM; // C

struct Params {
    m: u32, // bound rows of x
    n: u32, // columns of this dispatch
    k: u32, // K
    first: u32, // first column of this dispatch, of 3 N D
    first_weight: u32, // first bound row of the weight
    first_row: u32, // first bound row of x, of B T
    tokens: u32, // T
    prefix: u32, // T - P
    first_head: u32, // first bound head, of B N
    bound_heads: u32,
    part_pitch: u32, // from the queries to the keys, and from the keys to the values; 0 if one of them is bound
    pad0: u32,
}

// Returns the row of the weight that gives a column of this dispatch.
fn weight_row(col: u32) -> u32 {
    let n = params.first + col;
    let place = n % HEAD_DIM;
    let source = n - place + place / (2u * RUN) * RUN + place % RUN + place / RUN % 2u * HALF;
    return select(source, n, n >= 2u * WIDTH) - params.first_weight;
}

fn rounded(x: Pack) -> Pack {
    if BF16 {
        return round_bf16(x);
    }
    return x;
}

// Stores the sums of columns from `col` on, and those from `col` + RUN on, if `is_inside`. For queries and keys these are
// pairs. Only the stores are in a branch: drivers that unroll the caller's loop find what rows and columns have in common.
fn store_pair(row: u32, col: u32, is_inside: bool, first: Pack, second: Pack) {
    let n = params.first + col;
    let part = n / WIDTH; // 0, 1, 2: q, k, v
    let place = n % WIDTH % HEAD_DIM;
    let image = (params.first_row + row) / params.tokens;
    let t = params.first_row + row - image * params.tokens;
    let head = image * HEADS + n % WIDTH / HEAD_DIM;
    let is_pair = part < 2u;
    let i = place / (2u * RUN) * RUN + place % RUN;
    let n_first = select(n, n - place + i, is_pair);
    let a = biased(first, n_first);
    let b = biased(second, n_first + select(RUN, HALF, is_pair));
    let has_angle = is_pair && t >= params.prefix;
    let angle = select(0u, ((t - params.prefix) * HALF + i) / PACK, has_angle);
    let sin = table[angle];
    let cos = table[(params.tokens - params.prefix) * HALF / PACK + angle];
    let a_rounded = rounded(a);
    let b_rounded = rounded(b);
    let a_turned = rounded(rounded(a_rounded * cos) + rounded(-b_rounded * sin));
    let b_turned = rounded(rounded(b_rounded * cos) + rounded(a_rounded * sin));
    let a_stored = select(select(a, a_rounded, is_pair), a_turned, has_angle);
    let b_stored = select(select(b, b_rounded, is_pair), b_turned, has_angle);
    if is_inside && head >= params.first_head && head - params.first_head < params.bound_heads {
        put(part * params.part_pitch + ((head - params.first_head) * params.tokens + t) * HEAD_DIM + place, a_stored, b_stored);
    }
}
