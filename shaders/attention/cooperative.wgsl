// The same result as attention.wgsl, by cooperative matrices of SIDE x SIDE x SIDE.
//
// A workgroup computes SUBGROUPS x BLOCKS x SIDE queries of one head, over KEYS keys and values at a time. A subgroup keeps
// its queries, and their results o, as matrices. Each matrix of keys or values that it loads from workgroup memory serves
// BLOCKS matrices of queries.
//
// SUBGROUP_SIZE is the most invocations that a subgroup can have. If the driver chose smaller ones, a workgroup has more than
// SUBGROUPS of them, and those past the last repeat its work. Softmaxes are computed, and results stored, by teams of
// SUBGROUP_SIZE neighbours: a subgroup, or several smaller ones.
//
// With one buffer (BUFFERS = 1), a step has two phases, with a barrier after each: the softmax of its scores, while the next
// keys and its values are staged; and the products, which are its weights times values, and then the next step's scores.
// With two buffers a step is one phase: its softmax, while its values and the keys after the next are staged; the last
// step's weights times values; and the next step's scores. None of these needs a barrier before another.
//
// shared/factors_*.wgsl says how a tile holds four elements of a factor: as PARTS packs of type F, which follow each other
// at a distance of D elements, or of KEYS elements among the weights. Elements of q, k and v have the type X, and the
// softmax's weights the type W. How products of two parts add up, shared/gemm_cooperative.wgsl says.
//
// Scores and weights pass through workgroup memory, because a shader cannot access single elements of a cooperative
// matrix. SUBGROUP_SIZE / SIDE invocations compute the softmax of a query.
//
// The exponentials' offset m need not be the largest score so far, only near it, because the final division cancels the
// offset. Rescaling o passes through memory as well, so it happens only when some score exceeds its m by more than SLACK.
// Offsets are in units of log2; 2^SLACK is below the largest f16.
//
// Where TURNED, values lie as [D, KEYS] in their tile, so that a matrix of them is loaded by rows as one of keys is. AMD's
// compiler loads a column of values otherwise element by element.
//
// This file has what comes before the first scores. The files in cooperative/ follow: scores, for the first keys, and steps,
// which begins the loop. In the loop there are, with one buffer, softmax, rescale, products (weights times values) and
// scores; with two, rescale, softmax, products and scores. step_end ends it. With two buffers, rescale and products of the
// last step follow; then results. They are files and no functions, because drivers may keep the matrices that a function is
// handed in memory. `other` is the buffer of what the products read and of the scores that they write; with one buffer it is
// the same.
//
// Loops over private arrays are unrolled (graph/unroll.rs).
@group(0) @binding(3) var<storage, read_write> y: array<vec4<Y>>; // [rows, N, D]

const PIECES: u32 = HEAD_DIM / SIDE; // matrices along D
const SPAN: u32 = KEYS / SIDE; // matrices along the keys
const SIDE4: u32 = SIDE / 4u;
const OWN: u32 = BLOCKS * SIDE; // queries of a subgroup
const QUERIES: u32 = SUBGROUPS * OWN;
const SHARE: u32 = SUBGROUP_SIZE / SIDE; // invocations of a query
const LANES: u32 = SUBGROUPS * SUBGROUP_SIZE;
const FOURS: u32 = KEYS / 4u / SHARE; // vec4s of scores of an invocation
const PATCH_FOURS: u32 = SIDE4 / SHARE; // vec4s of a matrix's row of an invocation
const CHUNKS: u32 = (KEYS * D4 + LANES - 1u) / LANES; // vec4s of keys, and of values, that an invocation stages
const EXACT: bool = CHUNKS * LANES == KEYS * D4;
// Strides of rows in vec4s. The padding avoids bank conflicts.
const PITCH4: u32 = PARTS * D4 + 2u; // of keys and values
const SCORE_ROW4: u32 = KEYS / 4u + 2u;
const WEIGHT_ROW4: u32 = PARTS * KEYS / 4u + 2u;
const SCORE_PATCH: u32 = SIDE * SCORE_ROW4; // scores of SIDE queries
const WEIGHT_PATCH: u32 = SIDE * WEIGHT_ROW4;
const KEYS4: u32 = KEYS / 4u;
const VALUE_ROW4: u32 = PARTS * KEYS4 + 2u; // of values where they are turned
const SCORES: u32 = SUBGROUPS * BLOCKS * SCORE_PATCH;
const WEIGHTS: u32 = SUBGROUPS * BLOCKS * WEIGHT_PATCH;
const K_TILE: u32 = KEYS * PITCH4;
const V_TILE: u32 = select(K_TILE, HEAD_DIM * VALUE_ROW4, TURNED);
// From a matrix of values to the next one along the keys, to the next one along D, and to that of the low parts.
const NEXT_VALUES: u32 = select(SIDE * PITCH4, SIDE4, TURNED);
const NEXT_PIECE: u32 = select(SIDE4, SIDE * VALUE_ROW4, TURNED);
const LOW_VALUES: u32 = select(D4, KEYS4, TURNED);
const SQUARES: u32 = (KEYS4 * D4 + LANES - 1u) / LANES; // of four values by four elements, which an invocation turns
const SLACK: f32 = 14.0;

// Every size is a multiple of 16 bytes, so that each variable begins at one, however a driver packs them. Matrices are
// loaded in rows of 16 bytes. When flags of 8 bytes came first, an NVIDIA driver placed the tiles 8 bytes off, and results
// were wrong.
var<workgroup> k_tile: array<vec4<F>, BUFFERS * K_TILE>;
var<workgroup> v_tile: array<vec4<F>, BUFFERS * V_TILE>;
var<workgroup> scores: array<vec4<f32>, BUFFERS * SCORES>;
var<workgroup> weights: array<vec4<F>, BUFFERS * WEIGHTS>;
// For each buffer, the end of the last step in which some offset grew; the others fill 16 bytes.
var<workgroup> grown_at: array<atomic<u32>, 4>;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) place: u32,
    @builtin(subgroup_size) size: u32,
}

// This invocation's share of KEYS keys, whose vec4s begin at `at` for this invocation. Past the end of the head, where
// scores are masked, it repeats the head's `last` vec4.
fn loaded_keys(at: u32, last: u32) -> array<vec4<X>, CHUNKS> {
    var fours: array<vec4<X>, CHUNKS>;
    for (var i = 0u; i < CHUNKS; i++) { // unroll
        fours[i] = k[min(at + i * LANES, last)];
    }
    return fours;
}

// The same of the values, whose vec4s begin at `start`; or if they are turned, four vec4s for each of its squares.
fn loaded_values(start: u32, index: u32, last: u32) -> array<vec4<X>, 4u * SQUARES> {
    var fours: array<vec4<X>, 4u * SQUARES>;
    if TURNED {
        for (var i = 0u; i < SQUARES; i++) { // unroll
            let e = index + i * LANES;
            for (var r = 0u; r < 4u; r++) { // unroll
                fours[4u * i + r] = v[min(start + (e % KEYS4 * 4u + r) * D4 + e / KEYS4, last)];
            }
        }
    } else {
        for (var i = 0u; i < CHUNKS; i++) { // unroll
            fours[i] = v[min(start + index + i * LANES, last)];
        }
    }
    return fours;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let head_start = group.y * params.tokens; // in tokens of the bound heads
    let head = params.first_head + group.y;
    let batch_row = head / params.heads * params.tokens;
    let first_query = (params.first_tile + group.x) * QUERIES;
    let end_query = min(first_query + QUERIES, params.tokens);
    // A tile without any bound row visits no key. It does not return early, because naga allows no cooperative matrix
    // after a return.
    let reached = batch_row + end_query > params.first_row && batch_row + first_query < params.first_row + params.rows;
    let end = select(0u, params.tokens, reached);

    // What this invocation's subgroup multiplies.
    let subgroup = min(lane.subgroup, SUBGROUPS - 1u);
    let own_scores = subgroup * BLOCKS * SCORE_PATCH;
    let own_weights = subgroup * BLOCKS * WEIGHT_PATCH;
    // The queries whose softmax it computes, one in each block, and its share of them.
    let rank = lane.subgroup * lane.size + lane.place;
    let team = min(rank / SUBGROUP_SIZE, SUBGROUPS - 1u);
    let of_block = rank % SUBGROUP_SIZE / SHARE;
    let share = rank % SHARE;
    let query_scores = team * BLOCKS * SCORE_PATCH + of_block * SCORE_ROW4 + share;
    let query_weights = team * BLOCKS * WEIGHT_PATCH + of_block * WEIGHT_ROW4 + share;
    // The queries pass through the patch of the weights, SIDE x SIDE at a time.
    var rows: array<vec4<X>, BLOCKS * PIECES * PATCH_FOURS>;
    for (var b = 0u; b < BLOCKS; b++) { // unroll
        let t = min(first_query + team * OWN + b * SIDE + of_block, params.tokens - 1u);
        for (var i = 0u; i < PIECES * PATCH_FOURS; i++) { // unroll
            rows[b * PIECES * PATCH_FOURS + i] = q[(head_start + t) * D4 + i * SHARE + share];
        }
    }
    var query: array<array<Left, PARTS * PIECES>, BLOCKS>;
    for (var b = 0u; b < BLOCKS; b++) { // unroll
        for (var i = 0u; i < PIECES; i++) { // unroll
            for (var p = 0u; p < PARTS; p++) { // unroll
                for (var j = 0u; j < PATCH_FOURS; j++) { // unroll
                    let parts = x_parts(rows[(b * PIECES + i) * PATCH_FOURS + j]);
                    weights[query_weights + j * SHARE] = parts[p];
                }
                workgroupBarrier();
                query[b][i * PARTS + p] = coopLoadT<Left>(&weights[own_weights], WEIGHT_ROW4);
                workgroupBarrier();
            }
        }
    }
    var o: array<array<Sum, PIECES>, BLOCKS>;
    var m: array<f32, BLOCKS>;
    var l: array<f32, BLOCKS>;
    for (var b = 0u; b < BLOCKS; b++) { // unroll
        m[b] = MASKED;
    }
    var rescale: array<f32, BLOCKS>;
    var done = 0u; // keys whose softmax was computed
    if lane.index < 2u {
        atomicStore(&grown_at[lane.index], 0u);
    }
    let last = (head_start + params.tokens) * D4 - 1u;
    var at_values = head_start * D4;
    for (var part = 0u; part < BUFFERS; part++) { // unroll
        let keys = loaded_keys(at_values + lane.index + part * KEYS * D4, last);
        for (var i = 0u; i < CHUNKS; i++) { // unroll
            let e = lane.index + i * LANES;
            if EXACT || e < KEYS * D4 {
                let parts = x_parts(keys[i]);
                for (var p = 0u; p < PARTS; p++) { // unroll
                    k_tile[part * K_TILE + e / D4 * PITCH4 + p * D4 + e % D4] = parts[p];
                }
            }
        }
    }
    if BUFFERS == 2u {
        // The first step multiplies the weights and values before it, which are none.
        for (var e = lane.index; e < WEIGHTS; e += LANES) {
            weights[WEIGHTS + e] = vec4<F>();
        }
        for (var e = lane.index; e < V_TILE; e += LANES) {
            v_tile[V_TILE + e] = vec4<F>();
        }
    }
    var next_k = loaded_keys(at_values + lane.index + BUFFERS * KEYS * D4, last);
    var next_v = loaded_values(at_values, lane.index, last);
    var buffer = 0u;
    var other = 0u;
    workgroupBarrier();
