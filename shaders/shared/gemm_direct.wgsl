// sum[row, col] = sum over k of x[row, k] weight[col, k], straight from the bindings, without workgroup memory or
// barriers. For software GPUs, where barriers are slow and the CPU's caches replace tiles.
//
// A workgroup computes TILE_M rows x TILE_N columns. Its invocations form a grid of THREADS_M x THREADS_N, each with
// ROWS x COLS sums whose rows and columns are THREADS_M and THREADS_N apart. Rows and columns past the end repeat the
// last one and are not stored; `store_two` stores two neighbouring columns of an invocation. COLS is even. Each panel of
// PANEL_K4 vec4s along K is summed separately, because one long chain of f32 additions would lose most of a digit by
// K = 3072.
const PANEL_K4: u32 = 16u;
const THREADS_M: u32 = TILE_M / ROWS;
const THREADS_N: u32 = TILE_N / COLS;

@compute @workgroup_size(THREADS_M * THREADS_N)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TILE_M + lane / THREADS_N;
    let first_col = group.x * TILE_N + lane % THREADS_N;

    var sums: array<array<f32, COLS>, ROWS>;
    let k4_end = (params.k + 3u) / 4u;
    for (var start = 0u; start < k4_end; start += PANEL_K4) {
        var partial: array<array<f32, COLS>, ROWS>;
        for (var k4 = start; k4 < min(start + PANEL_K4, k4_end); k4++) {
            var w: array<vec4<f32>, COLS>;
            for (var j = 0u; j < COLS; j++) {
                w[j] = load_w(min(first_col + j * THREADS_N, params.n - 1u), k4);
            }
            for (var i = 0u; i < ROWS; i++) {
                let four = load_x(min(first_row + i * THREADS_M, params.m - 1u), k4);
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
    }

    for (var i = 0u; i < ROWS; i++) {
        let row = first_row + i * THREADS_M;
        for (var j = 0u; j < COLS; j += 2u) {
            store_two(row, first_col + j * THREADS_N, sums[i][j], sums[i][j + 1u]);
        }
    }
}
