// y[b, t, n, :] = sum over s of softmax_s(q[b, n, t] . k[b, n, s] SCALE) v[b, n, s], as in attention.wgsl, but without
// workgroup memory or barriers, for software GPUs. There a load costs as much as several products, even if all
// invocations of a workgroup (the lanes of one vector instruction) load the same address. So each invocation computes
// QUERIES queries of one head, LANES apart, and uses each loaded key or value for all of them.
@group(0) @binding(3) var<storage, read_write> y: array<vec4<Y>>; // [rows, N, D]

const TILE: u32 = LANES * QUERIES;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head_start = group.y * params.tokens; // in tokens of the bound heads
    let head = params.first_head + group.y;
    let batch_row = head / params.heads * params.tokens;
    let first_query = (params.first_tile + group.x) * TILE;
    let end_query = min(first_query + TILE, params.tokens);
    if batch_row + end_query <= params.first_row || batch_row + first_query >= params.first_row + params.rows {
        return;
    }

    var scaled: array<array<vec4<f32>, D4>, QUERIES>;
    var o: array<array<vec4<f32>, D4>, QUERIES>;
    var m: array<f32, QUERIES>;
    var l: array<f32, QUERIES>;
    for (var a = 0u; a < QUERIES; a++) {
        let query = (head_start + min(first_query + a * LANES + lane, params.tokens - 1u)) * D4;
        for (var i = 0u; i < D4; i++) {
            scaled[a][i] = vec4<f32>(q[query + i]) * SCALE;
        }
        m[a] = MASKED;
    }
    for (var start = 0u; start < params.tokens; start += GROUP) {
        var scores: array<array<f32, GROUP>, QUERIES>;
        for (var j = 0u; j < GROUP; j++) {
            let key = (head_start + min(start + j, params.tokens - 1u)) * D4;
            var products: array<vec4<f32>, QUERIES>;
            for (var i = 0u; i < D4; i++) {
                let four = vec4<f32>(k[key + i]);
                for (var a = 0u; a < QUERIES; a++) {
                    products[a] = fma(scaled[a][i], four, products[a]);
                }
            }
            for (var a = 0u; a < QUERIES; a++) {
                let score = (products[a].x + products[a].y) + (products[a].z + products[a].w);
                scores[a][j] = select(MASKED, score, start + j < params.tokens);
            }
        }
        var rescale: array<f32, QUERIES>;
        for (var a = 0u; a < QUERIES; a++) {
            var highest = m[a];
            for (var j = 0u; j < GROUP; j++) {
                highest = max(highest, scores[a][j]);
            }
            rescale[a] = exp(m[a] - highest);
            m[a] = highest;
            l[a] *= rescale[a];
            for (var j = 0u; j < GROUP; j++) {
                scores[a][j] = exp(scores[a][j] - highest);
                l[a] += scores[a][j];
            }
        }
        for (var i = 0u; i < D4; i++) {
            var sums: array<vec4<f32>, QUERIES>;
            for (var j = 0u; j < GROUP; j++) {
                let four = vec4<f32>(v[(head_start + min(start + j, params.tokens - 1u)) * D4 + i]);
                for (var a = 0u; a < QUERIES; a++) {
                    sums[a] = fma(vec4<f32>(scores[a][j]), four, sums[a]);
                }
            }
            for (var a = 0u; a < QUERIES; a++) {
                o[a][i] = o[a][i] * rescale[a] + sums[a];
            }
        }
    }

    for (var a = 0u; a < QUERIES; a++) {
        let t = first_query + a * LANES + lane;
        let row = batch_row + t;
        if t < params.tokens && row >= params.first_row && row - params.first_row < params.rows {
            let place = ((row - params.first_row) * params.heads + head % params.heads) * D4;
            for (var i = 0u; i < D4; i++) {
                y[place + i] = vec4<Y>(o[a][i] / l[a]);
            }
        }
    }
}
