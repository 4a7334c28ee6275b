// The same result as attention.wgsl, by blocks of queries times keys, as products of matrices are computed.
//
// A workgroup computes QUERIES queries of one head, over KEYS keys and values at a time. Its invocations form a grid of
// THREADS_Q x THREADS_K. An invocation has the scores of ROWS neighbouring queries by COLS keys, THREADS_K apart, and of
// the same queries' results DIMS4 vec4s, THREADS_K apart. Each value that it loads from workgroup memory serves several
// products.
//
// A step has four parts, with barriers between them: scores; the largest of a query's scores, from all invocations that
// share the query; weights; weights times values. Weights lie where the keys did, and those largest scores where the
// values do. Meanwhile the next keys and values are on their way from the bindings to registers.
//
// Tiles hold vec4s: queries [QUERIES, D4], keys [D4, KEYS], weights [KEYS, QUERIES / 4], values [KEYS, D4]. Where eight
// neighbours store a column of a tile, the places of each row are exchanged (`^`), so that the neighbours reach different
// banks. THREADS_K and QUERIES / 4 are multiples of 8, ROWS of 4, and D4 of DEPTH4.
//
// Loops over private arrays are unrolled (graph/unroll.rs).
@group(0) @binding(3) var<storage, read_write> y: array<vec4<Y>>; // [rows, N, D]

const THREADS_Q: u32 = QUERIES / ROWS;
const THREADS_K: u32 = KEYS / COLS;
const LANES: u32 = THREADS_Q * THREADS_K;
const ROWS4: u32 = ROWS / 4u;
const QUERIES4: u32 = QUERIES / 4u;
const DIMS4: u32 = (D4 + THREADS_K - 1u) / THREADS_K;
const WHOLE_D: bool = D4 % THREADS_K == 0u;
const CHUNKS: u32 = (KEYS * D4 + LANES - 1u) / LANES; // vec4s of keys, and of values, that an invocation stages
const EXACT: bool = CHUNKS * LANES == KEYS * D4;

var<workgroup> q_tile: array<vec4<X>, QUERIES * D4>;
var<workgroup> k_tile: array<vec4<f32>, KEYS * max(D4, QUERIES4)>; // keys, then weights
var<workgroup> v_tile: array<vec4<f32>, max(KEYS * D4, ROWS4 * LANES)>; // values; before them, and at the end, shares of queries

// This invocation's share of KEYS keys, whose vec4s begin at `at` for this invocation. Past the end of the head, where
// scores are masked, it repeats the head's `last` vec4.
fn loaded_keys(at: u32, last: u32) -> array<vec4<X>, CHUNKS> {
    var fours: array<vec4<X>, CHUNKS>;
    for (var i = 0u; i < CHUNKS; i++) { // unroll
        fours[i] = k[min(at + i * LANES, last)];
    }
    return fours;
}

fn loaded_values(at: u32, last: u32) -> array<vec4<X>, CHUNKS> {
    var fours: array<vec4<X>, CHUNKS>;
    for (var i = 0u; i < CHUNKS; i++) { // unroll
        fours[i] = v[min(at + i * LANES, last)];
    }
    return fours;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head_start = group.y * params.tokens; // in tokens of the bound heads
    let head = params.first_head + group.y;
    let batch_row = head / params.heads * params.tokens;
    let first_query = (params.first_tile + group.x) * QUERIES;
    let end_query = min(first_query + QUERIES, params.tokens);
    if batch_row + end_query <= params.first_row || batch_row + first_query >= params.first_row + params.rows {
        return;
    }
    let row = lane / THREADS_K;
    let col = lane % THREADS_K;
    for (var e = lane; e < QUERIES * D4; e += LANES) {
        q_tile[e] = q[(head_start + min(first_query + e / D4, params.tokens - 1u)) * D4 + e % D4];
    }

    var o: array<vec4<f32>, ROWS * DIMS4>;
    var m: array<f32, ROWS>;
    var l: array<f32, ROWS>;
    for (var a = 0u; a < ROWS; a++) { // unroll
        m[a] = MASKED;
    }
    let last = (head_start + params.tokens) * D4 - 1u;
    let first = head_start * D4 + lane;
    var next_k = loaded_keys(first, last);
    for (var start = 0u; start < params.tokens; start += KEYS) {
        // Other invocations may still be reading the previous weights and values.
        workgroupBarrier();
        for (var i = 0u; i < CHUNKS; i++) { // unroll
            let e = lane + i * LANES;
            if EXACT || e < KEYS * D4 {
                k_tile[e % D4 * KEYS + ((e / D4) ^ (e % D4 % 8u))] = vec4<f32>(next_k[i]);
            }
        }
        let next_v = loaded_values(first + start * D4, last);
        workgroupBarrier();

        var s = array<f32, ROWS * COLS>();
        for (var piece = 0u; piece < D4; piece += DEPTH4) {
            for (var step = 0u; step < DEPTH4; step++) { // unroll
                let d4 = piece + step;
                let at = d4 * KEYS + (col ^ (d4 % 8u));
                var key: array<vec4<f32>, COLS>;
                for (var j = 0u; j < COLS; j++) { // unroll
                    key[j] = k_tile[at + j * THREADS_K];
                }
                for (var a = 0u; a < ROWS; a++) { // unroll
                    let query = vec4<f32>(q_tile[(row * ROWS + a) * D4 + d4]);
                    // One product after another, so that none waits for the one before.
                    for (var j = 0u; j < COLS; j++) { // unroll
                        s[a * COLS + j] = fma(query.x, key[j].x, s[a * COLS + j]);
                    }
                    for (var j = 0u; j < COLS; j++) { // unroll
                        s[a * COLS + j] = fma(query.y, key[j].y, s[a * COLS + j]);
                    }
                    for (var j = 0u; j < COLS; j++) { // unroll
                        s[a * COLS + j] = fma(query.z, key[j].z, s[a * COLS + j]);
                    }
                    for (var j = 0u; j < COLS; j++) { // unroll
                        s[a * COLS + j] = fma(query.w, key[j].w, s[a * COLS + j]);
                    }
                }
            }
        }
        if start + KEYS > params.tokens {
            for (var j = 0u; j < COLS; j++) { // unroll
                let masked = start + j * THREADS_K + col >= params.tokens;
                for (var a = 0u; a < ROWS; a++) { // unroll
                    s[a * COLS + j] = select(s[a * COLS + j], MASKED, masked);
                }
            }
        }

        var highest: array<vec4<f32>, ROWS4>;
        for (var r = 0u; r < ROWS4; r++) { // unroll
            highest[r] = vec4<f32>(s[4u * r * COLS], s[(4u * r + 1u) * COLS], s[(4u * r + 2u) * COLS], s[(4u * r + 3u) * COLS]);
            for (var j = 1u; j < COLS; j++) { // unroll
                let other = vec4<f32>(s[4u * r * COLS + j], s[(4u * r + 1u) * COLS + j], s[(4u * r + 2u) * COLS + j], s[(4u * r + 3u) * COLS + j]);
                highest[r] = max(highest[r], other);
            }
            v_tile[r * LANES + lane] = highest[r];
        }
        workgroupBarrier();
        for (var r = 0u; r < ROWS4; r++) { // unroll
            for (var t = 0u; t < THREADS_K; t++) {
                highest[r] = max(highest[r], v_tile[r * LANES + row * THREADS_K + t]);
            }
        }
        for (var a = 0u; a < ROWS; a++) { // unroll
            let offset = max(m[a], highest[a / 4u][a % 4u] * SCALE);
            let rescale = exp(m[a] - offset);
            m[a] = offset;
            l[a] *= rescale;
            for (var j = 0u; j < COLS; j++) { // unroll
                s[a * COLS + j] = exp(fma(s[a * COLS + j], SCALE, -offset));
                l[a] += s[a * COLS + j];
            }
            for (var i = 0u; i < DIMS4; i++) { // unroll
                o[a * DIMS4 + i] *= rescale;
            }
        }
        // Other invocations may still be reading the largest scores.
        workgroupBarrier();
        for (var j = 0u; j < COLS; j++) { // unroll
            for (var r = 0u; r < ROWS4; r++) { // unroll
                let four = vec4<f32>(s[4u * r * COLS + j], s[(4u * r + 1u) * COLS + j], s[(4u * r + 2u) * COLS + j], s[(4u * r + 3u) * COLS + j]);
                k_tile[(j * THREADS_K + col) * QUERIES4 + ((row * ROWS4 + r) ^ (col % 8u))] = four;
            }
        }
        for (var i = 0u; i < CHUNKS; i++) { // unroll
            let e = lane + i * LANES;
            if EXACT || e < KEYS * D4 {
                v_tile[e] = vec4<f32>(next_v[i]);
            }
        }
        workgroupBarrier();
        next_k = loaded_keys(first + (start + KEYS) * D4, last);

        for (var piece = 0u; piece < KEYS; piece += 8u) {
            for (var step = 0u; step < 8u; step++) { // unroll
                let at = piece + step;
                var weight: array<vec4<f32>, ROWS4>;
                for (var r = 0u; r < ROWS4; r++) { // unroll
                    weight[r] = k_tile[at * QUERIES4 + ((row * ROWS4 + r) ^ step)];
                }
                for (var i = 0u; i < DIMS4; i++) { // unroll
                    if WHOLE_D || i * THREADS_K + col < D4 {
                        let value = v_tile[at * D4 + i * THREADS_K + col];
                        for (var a = 0u; a < ROWS; a++) { // unroll
                            o[a * DIMS4 + i] = fma(vec4<f32>(weight[a / 4u][a % 4u]), value, o[a * DIMS4 + i]);
                        }
                    }
                }
            }
        }
    }

    workgroupBarrier();
    for (var r = 0u; r < ROWS4; r++) { // unroll
        v_tile[r * LANES + lane] = vec4<f32>(l[4u * r], l[4u * r + 1u], l[4u * r + 2u], l[4u * r + 3u]);
    }
    workgroupBarrier();
    for (var r = 0u; r < ROWS4; r++) { // unroll
        var sums = vec4<f32>(0.0);
        for (var t = 0u; t < THREADS_K; t++) {
            sums += v_tile[r * LANES + row * THREADS_K + t];
        }
        for (var a = 0u; a < 4u; a++) { // unroll
            let t = first_query + row * ROWS + 4u * r + a;
            let y_row = batch_row + t;
            if t < params.tokens && y_row >= params.first_row && y_row - params.first_row < params.rows {
                let place = ((y_row - params.first_row) * params.heads + head % params.heads) * D4;
                for (var i = 0u; i < DIMS4; i++) { // unroll
                    if WHOLE_D || i * THREADS_K + col < D4 {
                        y[place + i * THREADS_K + col] = vec4<Y>(o[(4u * r + a) * DIMS4 + i] / sums[a]);
                    }
                }
            }
        }
    }
}
