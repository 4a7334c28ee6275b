// y[b, t, n, :] = sum over s of softmax_s(q[b, n, t] . k[b, n, s] SCALE) v[b, n, s], with a running softmax, so that no
// T x T matrix is ever stored.
//
// An invocation computes one query of one head; a workgroup computes LANES queries. attention/keys_tiled.wgsl loads
// KEYS keys and values at a time. The invocation takes them in groups of GROUP: it computes their scores, rescales all
// sums to the new maximum, then adds weights and weighted values. With m the running maximum, l = sum exp(s - m) and o
// = sum exp(s - m) v, the result is o / l.
@group(0) @binding(3) var<storage, read_write> y: array<vec4<Y>>; // [rows, N, D]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head_start = group.y * params.tokens; // in tokens of the bound heads
    let head = params.first_head + group.y;
    let batch_row = head / params.heads * params.tokens;
    let first_query = (params.first_tile + group.x) * LANES;
    let end_query = min(first_query + LANES, params.tokens);
    if batch_row + end_query <= params.first_row || batch_row + first_query >= params.first_row + params.rows {
        return;
    }
    let t = first_query + lane;
    let query = (head_start + min(t, params.tokens - 1u)) * D4;

    var scaled: array<vec4<f32>, D4>;
    var o: array<vec4<f32>, D4>;
    for (var i = 0u; i < D4; i++) {
        scaled[i] = vec4<f32>(q[query + i]) * SCALE;
    }
    var m = MASKED;
    var l = 0.0;
    for (var start = 0u; start < params.tokens; start += KEYS) {
        stage(head_start, start, lane);
        for (var at = 0u; at < min(KEYS, params.tokens - start); at += GROUP) {
            var scores: array<f32, GROUP>;
            var highest = m;
            for (var j = 0u; j < GROUP; j++) {
                var products = vec4<f32>(0.0);
                for (var i = 0u; i < D4; i++) {
                    products = fma(scaled[i], key(head_start, start, at + j, i), products);
                }
                let score = (products.x + products.y) + (products.z + products.w);
                scores[j] = select(MASKED, score, start + at + j < params.tokens);
                highest = max(highest, scores[j]);
            }
            let rescale = exp(m - highest);
            m = highest;
            l *= rescale;
            for (var j = 0u; j < GROUP; j++) {
                scores[j] = exp(scores[j] - m);
                l += scores[j];
            }
            for (var i = 0u; i < D4; i++) {
                var sum = o[i] * rescale;
                for (var j = 0u; j < GROUP; j++) {
                    sum = fma(vec4<f32>(scores[j]), value(head_start, start, at + j, i), sum);
                }
                o[i] = sum;
            }
        }
    }

    let row = batch_row + t;
    if t < params.tokens && row >= params.first_row && row - params.first_row < params.rows {
        let place = ((row - params.first_row) * params.heads + head % params.heads) * D4;
        for (var i = 0u; i < D4; i++) {
            y[place + i] = vec4<Y>(o[i] / l);
        }
    }
}
