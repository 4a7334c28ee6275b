// sum[row, col] = sum over k of x[row, k] weight[col, k], through tiles in workgroup memory.
//
// A workgroup computes TILE_M rows x TILE_N columns, TILE_K steps along K at a time. Its invocations form a grid of
// THREADS_M x THREADS_N. Each keeps ROWS x COLS sums whose rows and columns are THREADS_M and THREADS_N apart, so that
// neighbouring invocations access neighbouring elements. Tiles hold vec4s along K, K outermost: [TILE_K / 4, TILE_M]
// and [TILE_K / 4, TILE_N]. Rows and columns past the end repeat the last one and are not stored. Each tile is summed
// separately before it is added to the total, because one long chain of f32 additions would lose a digit by K = 3072.
const TILE_K4: u32 = TILE_K / 4u;
const THREADS_M: u32 = TILE_M / ROWS;
const THREADS_N: u32 = TILE_N / COLS;
const THREADS: u32 = THREADS_M * THREADS_N;

var<workgroup> x_tile: array<vec4<f32>, TILE_K4 * TILE_M>;
var<workgroup> w_tile: array<vec4<f32>, TILE_K4 * TILE_N>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TILE_M;
    let first_col = group.x * TILE_N;
    let thread_row = lane / THREADS_N;
    let thread_col = lane % THREADS_N;
    let k4_end = (params.k + 3u) / 4u;

    var sums: array<array<f32, COLS>, ROWS>;
    for (var start = 0u; start < k4_end; start += TILE_K4) {
        for (var i = lane; i < TILE_M * TILE_K4; i += THREADS) {
            let k4 = start + i % TILE_K4;
            let row = min(first_row + i / TILE_K4, params.m - 1u);
            var four = vec4<f32>(0.0);
            if k4 < k4_end {
                four = load_x(row, k4);
            }
            x_tile[i % TILE_K4 * TILE_M + i / TILE_K4] = four;
        }
        for (var i = lane; i < TILE_N * TILE_K4; i += THREADS) {
            let k4 = start + i % TILE_K4;
            let col = min(first_col + i / TILE_K4, params.n - 1u);
            var four = vec4<f32>(0.0);
            if k4 < k4_end {
                four = load_w(col, k4);
            }
            w_tile[i % TILE_K4 * TILE_N + i / TILE_K4] = four;
        }
        workgroupBarrier();
        var partial: array<array<f32, COLS>, ROWS>;
        for (var k4 = 0u; k4 < TILE_K4; k4++) {
            var w: array<vec4<f32>, COLS>;
            for (var j = 0u; j < COLS; j++) {
                w[j] = w_tile[k4 * TILE_N + thread_col + j * THREADS_N];
            }
            for (var i = 0u; i < ROWS; i++) {
                let four = x_tile[k4 * TILE_M + thread_row + i * THREADS_M];
                for (var j = 0u; j < COLS; j++) {
                    partial[i][j] = fma(four.w, w[j].w, fma(four.z, w[j].z, fma(four.y, w[j].y, fma(four.x, w[j].x, partial[i][j]))));
                }
            }
        }
        for (var i = 0u; i < ROWS; i++) {
            for (var j = 0u; j < COLS; j++) {
                sums[i][j] += partial[i][j];
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < ROWS; i++) {
        let row = first_row + thread_row + i * THREADS_M;
        for (var j = 0u; j < COLS; j++) {
            let col = first_col + thread_col + j * THREADS_N;
            if row < params.m && col < params.n {
                store(row, col, sums[i][j]);
            }
        }
    }
}
