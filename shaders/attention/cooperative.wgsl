// The same result as attention.wgsl, by cooperative matrices of SIDE x SIDE x SIDE.
//
// A workgroup computes SUBGROUPS x SIDE queries of one head. It loads KEYS keys and values at a time into workgroup
// memory, with a row stride of PITCH. A subgroup computes SIDE queries and keeps their results as D / SIDE matrices.
// Scores pass through workgroup memory, because a shader cannot access single elements of a cooperative matrix.
// SUBGROUP_SIZE / SIDE invocations compute the softmax of one query.
//
// The exponentials' offset m need not be the largest score so far, only near it, because the final division cancels the
// offset. Rescaling passes through memory as well, so it happens only when some score exceeds its m by more than SLACK.
// exp(SLACK) is well below the largest f16.
@group(0) @binding(3) var<storage, read_write> y: array<Y>; // [rows, N, D]

const PIECES: u32 = HEAD_DIM / SIDE;
const QUERIES: u32 = SUBGROUPS * SIDE;
const SHARE: u32 = SUBGROUP_SIZE / SIDE; // invocations a query
const LANES: u32 = SUBGROUPS * SUBGROUP_SIZE;
const SLACK: f32 = 6.0;

var<workgroup> q_tile: array<X, QUERIES * PITCH>;
var<workgroup> k_tile: array<X, KEYS * PITCH>;
var<workgroup> v_tile: array<X, KEYS * PITCH>;
var<workgroup> scores: array<f32, QUERIES * KEYS>; // of each subgroup [SIDE, KEYS]
var<workgroup> weights: array<X, QUERIES * KEYS>;
var<workgroup> grown_by_subgroup: array<u32, 4>; // SUBGROUPS of them, and zeros

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) place: u32,
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

    for (var i = lane.index; i < QUERIES * D4; i += LANES) {
        let four = q[(head_start + min(first_query + i / D4, params.tokens - 1u)) * D4 + i % D4];
        let at = i / D4 * PITCH + i % D4 * 4u;
        for (var j = 0u; j < 4u; j++) {
            q_tile[at + j] = four[j];
        }
    }
    if lane.index < 4u {
        grown_by_subgroup[lane.index] = 0u;
    }
    workgroupBarrier();
    var query: array<Left, PIECES>;
    for (var i = 0u; i < PIECES; i++) {
        let at = lane.subgroup * SIDE * PITCH + i * SIDE;
        query[i] = coopLoadT<Left>(&q_tile[at], PITCH);
    }

    let own = lane.subgroup * SIDE * KEYS; // this subgroup's scores and weights
    let own_query = own + lane.place / SHARE * KEYS;
    let share = lane.place % SHARE;
    var o: array<Sum, PIECES>;
    var m = MASKED;
    var l = 0.0;
    for (var start = 0u; start < end; start += KEYS) {
        for (var i = lane.index; i < KEYS * D4; i += LANES) {
            let from_row = (head_start + min(start + i / D4, params.tokens - 1u)) * D4 + i % D4;
            let at = i / D4 * PITCH + i % D4 * 4u;
            let key = k[from_row];
            let value = v[from_row];
            for (var j = 0u; j < 4u; j++) {
                k_tile[at + j] = key[j];
                v_tile[at + j] = value[j];
            }
        }
        workgroupBarrier();
        for (var j = 0u; j < KEYS; j += SIDE) {
            var products: array<Sum, 1>;
            for (var i = 0u; i < PIECES; i++) {
                // A column of the scores is a row of the keys, so D runs down the matrix.
                let at = j * PITCH + i * SIDE;
                products[0] = coopMultiplyAdd(query[i], coopLoad<Right>(&k_tile[at], PITCH), products[0]);
            }
            let at = own + j;
            coopStoreT(products[0], &scores[at], KEYS);
        }
        workgroupBarrier();

        // Keys past the end repeat the last key and have weight 0.
        let keys = min(KEYS, params.tokens - start);
        var highest = MASKED;
        for (var j = share; j < keys; j += SHARE) {
            highest = max(highest, scores[own_query + j] * SCALE);
        }
        for (var other = 1u; other < SHARE; other *= 2u) {
            highest = max(highest, subgroupShuffleXor(highest, other));
        }
        let grown = highest > m + SLACK;
        let offset = select(m, highest, grown);
        let rescale = exp(m - offset);
        m = offset;
        l *= rescale;
        for (var j = share; j < KEYS; j += SHARE) {
            var weight = X(0.0);
            if j < keys {
                weight = X(exp(scores[own_query + j] * SCALE - m));
            }
            weights[own_query + j] = weight;
            l += f32(weight);
        }
        let any_grown = subgroupAny(grown);
        if lane.place == 0u {
            grown_by_subgroup[lane.subgroup] = u32(any_grown);
        }
        // Cooperative matrices need uniform control flow, which this load provides. It is a barrier as well.
        let flags = workgroupUniformLoad(&grown_by_subgroup);
        if (flags[0] | flags[1] | flags[2] | flags[3]) != 0u {
            for (var i = 0u; i < PIECES; i++) {
                coopStoreT(o[i], &scores[own], SIDE);
                workgroupBarrier();
                for (var j = share; j < SIDE; j += SHARE) {
                    scores[own + lane.place / SHARE * SIDE + j] *= rescale;
                }
                workgroupBarrier();
                o[i] = coopLoadT<Sum>(&scores[own], SIDE);
                workgroupBarrier();
            }
        }
        for (var j = 0u; j < KEYS; j += SIDE) {
            let at = own + j;
            let weight = coopLoadT<Left>(&weights[at], KEYS);
            for (var i = 0u; i < PIECES; i++) {
                let value_at = j * PITCH + i * SIDE;
                o[i] = coopMultiplyAdd(weight, coopLoadT<Right>(&v_tile[value_at], PITCH), o[i]);
            }
        }
        workgroupBarrier();
    }
    for (var other = 1u; other < SHARE; other *= 2u) {
        l += subgroupShuffleXor(l, other);
    }

    let t = first_query + lane.subgroup * SIDE + lane.place / SHARE;
    let row = batch_row + t;
    let bound = t < params.tokens && row >= params.first_row && row - params.first_row < params.rows;
    let place = ((row - params.first_row) * params.heads + head % params.heads) * HEAD_DIM;
    for (var i = 0u; i < PIECES; i++) {
        coopStoreT(o[i], &scores[own], SIDE);
        workgroupBarrier();
        if bound {
            for (var j = share; j < SIDE; j += SHARE) {
                y[place + i * SIDE + j] = Y(scores[own + lane.place / SHARE * SIDE + j] / l);
            }
        }
        workgroupBarrier();
    }
}
