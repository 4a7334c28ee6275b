// y[b, t, n, :] = sum over s of softmax_s(q[b, n, t] . k[b, n, s] SCALE) v[b, n, s], by blocks of queries times keys, as
// products of matrices are computed. Softmax runs along, so that no T x T matrix is ever stored: with m the largest score so
// far, l = sum exp(s - m) and o = sum exp(s - m) v, the result is o / l.
//
// A workgroup computes QUERIES queries of one head, over KEYS keys and values at a time. Its invocations form a grid of
// THREADS_Q x THREADS_K. An invocation has the scores of ROWS neighbouring queries by COLS keys, THREADS_K apart, and of
// the same queries' results DIMS4 vec4s, THREADS_K apart. Each value that it loads from workgroup memory serves several
// products.
//
// A step has four parts, with barriers between them: scores; the largest of a query's scores, from all invocations that
// share the query; weights; weights times values. Scores add up over slices of the elements, SLICE4 vec4s of each query and
// key. A slice is multiplied while the next is on its way from the bindings to registers, and is stored in one of two
// buffers, so that a slice needs one barrier. Queries pass through workgroup memory again in each step: whole, they would
// take as much of it as everything else, and half as many workgroups would share a core.
//
// Workgroup memory holds vec4s in f32. For scores: two buffers, each with a slice of queries [QUERIES, SLICE4] and one of keys
// [SLICE4, KEYS], and behind them the shares: the largest scores of each invocation, and at the end of all steps its sums of
// weights. In the same place, for results: weights [QUERIES / 4, KEYS] and values [KEYS, D4]. Rows of keys are padded, so that
// eight neighbours that store some of each row reach different banks. THREADS_K and KEYS are multiples of 8, ROWS of 4, D4 of
// SLICE4, and SLICE4 is 1, 2 or 4.
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

// The vec4s that an invocation stages of a slice of queries, of a slice of keys, and of values.
const Q_CHUNKS: u32 = (QUERIES * SLICE4 + LANES - 1u) / LANES;
const K_CHUNKS: u32 = (KEYS * SLICE4 + LANES - 1u) / LANES;
const V_CHUNKS: u32 = (KEYS * D4 + LANES - 1u) / LANES;
const Q_EXACT: bool = Q_CHUNKS * LANES == QUERIES * SLICE4;
const K_EXACT: bool = K_CHUNKS * LANES == KEYS * SLICE4;
const V_EXACT: bool = V_CHUNKS * LANES == KEYS * D4;
const SLICES: u32 = D4 / SLICE4;
const ROWS_APART: u32 = LANES / SLICE4; // the rows of a slice that all invocations stage at once
const K_PITCH: u32 = KEYS + 8u / SLICE4;

// Where things lie in workgroup memory.
const K_AT: u32 = QUERIES * SLICE4; // keys, in a buffer of a slice
const BUFFER: u32 = (QUERIES + K_PITCH) * SLICE4;
const SHARES_AT: u32 = 2u * BUFFER;
const V_AT: u32 = KEYS * QUERIES4;
var<workgroup> tile: array<vec4<f32>, max(SHARES_AT + ROWS4 * LANES, V_AT + KEYS * D4)>;

// This invocation's share of a slice of queries. Its share of the first slice lies at `at`.
fn loaded_queries(at: array<u32, Q_CHUNKS>, slice: u32) -> array<vec4<X>, Q_CHUNKS> {
    var fours: array<vec4<X>, Q_CHUNKS>;
    for (var i = 0u; i < Q_CHUNKS; i++) { // unroll
        fours[i] = q[at[i] + slice * SLICE4];
    }
    return fours;
}

fn loaded_keys(at: array<u32, K_CHUNKS>, slice: u32) -> array<vec4<X>, K_CHUNKS> {
    var fours: array<vec4<X>, K_CHUNKS>;
    for (var i = 0u; i < K_CHUNKS; i++) { // unroll
        fours[i] = k[at[i] + slice * SLICE4];
    }
    return fours;
}

// Where this invocation's share of the first slice of keys lies. Past the end of the head, where scores are masked, it
// repeats the last key, whose vec4 lies at `last`.
fn keys_at(first: u32, last: u32) -> array<u32, K_CHUNKS> {
    var at: array<u32, K_CHUNKS>;
    for (var i = 0u; i < K_CHUNKS; i++) { // unroll
        at[i] = min(first + i * ROWS_APART * D4, last);
    }
    return at;
}

fn loaded_values(at: u32, last: u32) -> array<vec4<X>, V_CHUNKS> {
    var fours: array<vec4<X>, V_CHUNKS>;
    for (var i = 0u; i < V_CHUNKS; i++) { // unroll
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

    var o: array<vec4<f32>, ROWS * DIMS4>;
    var m: array<f32, ROWS>;
    var l: array<f32, ROWS>;
    for (var a = 0u; a < ROWS; a++) { // unroll
        m[a] = MASKED;
    }
    let first_v = head_start * D4 + lane;
    let last_v = (head_start + params.tokens) * D4 - 1u;
    let first = (head_start + lane / SLICE4) * D4 + lane % SLICE4;
    let last = (head_start + params.tokens - 1u) * D4 + lane % SLICE4;
    let k_store = K_AT + lane % SLICE4 * K_PITCH + lane / SLICE4;
    let w_store = row * ROWS4 * KEYS + col;
    let shares = SHARES_AT + row * THREADS_K;
    var q_at: array<u32, Q_CHUNKS>;
    for (var i = 0u; i < Q_CHUNKS; i++) { // unroll
        // Past the end of the head, where nothing is stored, the last query is repeated.
        q_at[i] = min(first + (first_query + i * ROWS_APART) * D4, last);
    }
    var next_q = loaded_queries(q_at, 0u);
    var next_k = loaded_keys(keys_at(first, last), 0u);
    for (var start = 0u; start < params.tokens; start += KEYS) {
        // Other invocations may still be reading the previous weights and values.
        workgroupBarrier();
        var s: array<f32, ROWS * COLS>;
        for (var j = 0u; j < COLS; j++) { // unroll
            // Scores are added to this. Beside the mask they are too small to count (below 2^75), so nothing needs masking after.
            let masked = select(0.0, MASKED, start + j * THREADS_K + col >= params.tokens);
            for (var a = 0u; a < ROWS; a++) { // unroll
                s[a * COLS + j] = masked;
            }
        }
        for (var slice = 0u; slice < SLICES; slice++) {
            let buffer = slice % 2u * BUFFER;
            for (var i = 0u; i < Q_CHUNKS; i++) { // unroll
                let e = lane + i * LANES;
                if Q_EXACT || e < QUERIES * SLICE4 {
                    tile[buffer + e] = vec4<f32>(next_q[i]);
                }
            }
            for (var i = 0u; i < K_CHUNKS; i++) { // unroll
                if K_EXACT || lane + i * LANES < KEYS * SLICE4 {
                    tile[buffer + k_store + i * ROWS_APART] = vec4<f32>(next_k[i]);
                }
            }
            workgroupBarrier();
            // After the last slice comes the first one of the next keys.
            let next = (slice + 1u) % SLICES;
            next_q = loaded_queries(q_at, next);
            next_k = loaded_keys(keys_at(first + select(start, start + KEYS, next == 0u) * D4, last), next);

            for (var step = 0u; step < SLICE4; step++) { // unroll
                let at = buffer + K_AT + step * K_PITCH + col;
                var key: array<vec4<f32>, COLS>;
                for (var j = 0u; j < COLS; j++) { // unroll
                    key[j] = tile[at + j * THREADS_K];
                }
                for (var a = 0u; a < ROWS; a++) { // unroll
                    let query = tile[buffer + (row * ROWS + a) * SLICE4 + step];
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
        let next_v = loaded_values(first_v + start * D4, last_v);

        var highest: array<vec4<f32>, ROWS4>;
        for (var r = 0u; r < ROWS4; r++) { // unroll
            highest[r] = vec4<f32>(s[4u * r * COLS], s[(4u * r + 1u) * COLS], s[(4u * r + 2u) * COLS], s[(4u * r + 3u) * COLS]);
            for (var j = 1u; j < COLS; j++) { // unroll
                let other = vec4<f32>(s[4u * r * COLS + j], s[(4u * r + 1u) * COLS + j], s[(4u * r + 2u) * COLS + j], s[(4u * r + 3u) * COLS + j]);
                highest[r] = max(highest[r], other);
            }
            tile[SHARES_AT + r * LANES + lane] = highest[r];
        }
        workgroupBarrier();
        for (var r = 0u; r < ROWS4; r++) { // unroll
            for (var t = 0u; t < THREADS_K; t++) {
                highest[r] = max(highest[r], tile[shares + r * LANES + t]);
            }
        }
        for (var a = 0u; a < ROWS; a++) { // unroll
            let offset = max(m[a], highest[a / 4u][a % 4u] * SCALE2);
            let rescale = exp2(m[a] - offset);
            m[a] = offset;
            var sum = 0.0;
            for (var j = 0u; j < COLS; j++) { // unroll
                s[a * COLS + j] = exp2(fma(s[a * COLS + j], SCALE2, -offset));
                sum += s[a * COLS + j];
            }
            l[a] = fma(l[a], rescale, sum);
            for (var i = 0u; i < DIMS4; i++) { // unroll
                o[a * DIMS4 + i] *= rescale;
            }
        }
        // Other invocations may still be reading the largest scores.
        workgroupBarrier();
        for (var j = 0u; j < COLS; j++) { // unroll
            for (var r = 0u; r < ROWS4; r++) { // unroll
                let four = vec4<f32>(s[4u * r * COLS + j], s[(4u * r + 1u) * COLS + j], s[(4u * r + 2u) * COLS + j], s[(4u * r + 3u) * COLS + j]);
                tile[w_store + r * KEYS + j * THREADS_K] = four;
            }
        }
        for (var i = 0u; i < V_CHUNKS; i++) { // unroll
            let e = lane + i * LANES;
            if V_EXACT || e < KEYS * D4 {
                tile[V_AT + e] = vec4<f32>(next_v[i]);
            }
        }
        workgroupBarrier();

        for (var piece = 0u; piece < KEYS; piece += 8u) {
            for (var step = 0u; step < 8u; step++) { // unroll
                let at = piece + step;
                var weight: array<vec4<f32>, ROWS4>;
                for (var r = 0u; r < ROWS4; r++) { // unroll
                    weight[r] = tile[(row * ROWS4 + r) * KEYS + at];
                }
                for (var i = 0u; i < DIMS4; i++) { // unroll
                    if WHOLE_D || i * THREADS_K + col < D4 {
                        let value = tile[V_AT + at * D4 + i * THREADS_K + col];
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
        tile[SHARES_AT + r * LANES + lane] = vec4<f32>(l[4u * r], l[4u * r + 1u], l[4u * r + 2u], l[4u * r + 3u]);
    }
    workgroupBarrier();
    for (var r = 0u; r < ROWS4; r++) { // unroll
        var sums = vec4<f32>(0.0);
        for (var t = 0u; t < THREADS_K; t++) {
            sums += tile[shares + r * LANES + t];
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
