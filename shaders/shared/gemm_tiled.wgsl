// sum[row, col] = sum over k of x[row, k] weight[col, k] in f32, through tiles in workgroup memory.
//
// A workgroup computes TILE_M rows x TILE_N columns, TILE_K steps along K at a time. Its invocations form GROUPS groups,
// each of which takes every GROUPS-th vec4 along K of a tile; their sums are added up at the end. Several groups keep a
// GPU busy where the result is small. In a group, an invocation has ROWS x COLS sums: rows THREADS_M apart, and runs of
// four columns 4 THREADS_N apart, so that neighbours access neighbouring elements. Many sums make much of a load: 9 x 8
// need 17 loads for 288 products. While one tile is multiplied, the next is on its way from the bindings to registers.
//
// Tiles hold vec4s along K, K outermost: [TILE_K4, TILE_M] and [TILE_K4, TILE_N]. The weight's tile lists the first
// columns of all runs, then the second ones, and so on. Padding lets eight neighbours that store a tile reach different
// banks. Rows and columns past the end repeat the last one and are not stored; K past the end is zero.
//
// Loops over private arrays are unrolled (graph/unroll.rs). COLS is a multiple of 4; TILE_K4 is 2, 4 or 8, and a multiple
// of GROUPS; a group has a multiple of 32 invocations.
const TILE_K4: u32 = TILE_K / 4u;
const COLS4: u32 = COLS / 4u;
const THREADS_M: u32 = TILE_M / ROWS;
const THREADS_N: u32 = TILE_N / COLS;
const GROUP: u32 = THREADS_M * THREADS_N;
const THREADS: u32 = GROUPS * GROUP;
const PITCH_M: u32 = (TILE_M + 7u) / 8u * 8u + 8u / TILE_K4;
const PITCH_N: u32 = (TILE_N + 7u) / 8u * 8u + 8u / TILE_K4;
const W_TILE: u32 = TILE_K4 * PITCH_M;
const TILES: u32 = TILE_K4 * (PITCH_M + PITCH_N);
const EXCHANGED: u32 = select(0u, THREADS * COLS4, GROUPS > 1u);
const STAGED: u32 = THREADS / TILE_K4; // rows that the workgroup stages at once
const X_LOADS: u32 = (TILE_M + STAGED - 1u) / STAGED;
const W_LOADS: u32 = (TILE_N + STAGED - 1u) / STAGED;
const BLOCK_N: u32 = select(4u, 8u, THREADS_N % 8u == 0u);
const BLOCK_M: u32 = 32u / BLOCK_N;

// The tile of x and then that of the weight; at the end, sums of the groups.
var<workgroup> tile: array<vec4<f32>, max(TILES, EXCHANGED)>;

// Elements 4 k4 to 4 k4 + 3 of every STAGED-th row of x's tile, from `place` on.
fn loaded_x(first_row: u32, place: u32, k4: u32) -> array<vec4<f32>, X_LOADS> {
    var fours: array<vec4<f32>, X_LOADS>;
    if WHOLE_K || k4 < (params.k + 3u) / 4u {
        for (var i = 0u; i < X_LOADS; i++) { // unroll
            if (i + 1u) * STAGED <= TILE_M || place + i * STAGED < TILE_M {
                fours[i] = load_x(min(first_row + place + i * STAGED, params.m - 1u), k4);
            }
        }
    }
    return fours;
}

// The same of the weight's tile.
fn loaded_w(first_col: u32, place: u32, k4: u32) -> array<vec4<f32>, W_LOADS> {
    var fours: array<vec4<f32>, W_LOADS>;
    if WHOLE_K || k4 < (params.k + 3u) / 4u {
        for (var i = 0u; i < W_LOADS; i++) { // unroll
            if (i + 1u) * STAGED <= TILE_N || place + i * STAGED < TILE_N {
                let list = (place + i * STAGED) / THREADS_N;
                let run = list / 4u * THREADS_N + (place + i * STAGED) % THREADS_N;
                fours[i] = load_w(min(first_col + 4u * run + list % 4u, params.n - 1u), k4);
            }
        }
    }
    return fours;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TILE_M;
    let first_col = group.x * TILE_N;
    let part = lane / GROUP;
    let own = lane % GROUP;
    // 32 neighbours form a block of BLOCK_M x BLOCK_N. Row and column alternate in the bits of an index, so that few
    // different vec4s are loaded at once.
    let block = own / 32u;
    let last = own / 16u % 2u * 4u;
    let row_in_block = own / 2u % 2u + own / 8u % 2u * 2u + select(last, 0u, BLOCK_N == 8u);
    let col_in_block = own % 2u + own / 4u % 2u * 2u + select(0u, last, BLOCK_N == 8u);
    let own_row = block / (THREADS_N / BLOCK_N) * BLOCK_M + row_in_block;
    let own_col = block % (THREADS_N / BLOCK_N) * BLOCK_N + col_in_block;

    // This invocation stages a vec4 of every STAGED-th row of a tile.
    let column = lane % TILE_K4;
    let place = lane / TILE_K4;
    var xs = loaded_x(first_row, place, column);
    var ws = loaded_w(first_col, place, column);
    var sums: array<f32, ROWS * COLS>;
    let k4_end = (params.k + 3u) / 4u;
    for (var start = 0u; start < k4_end; start += TILE_K4) {
        // Other invocations may still be reading the previous tile.
        workgroupBarrier();
        for (var i = 0u; i < X_LOADS; i++) { // unroll
            if (i + 1u) * STAGED <= TILE_M || place + i * STAGED < TILE_M {
                tile[column * PITCH_M + place + i * STAGED] = xs[i];
            }
        }
        for (var i = 0u; i < W_LOADS; i++) { // unroll
            if (i + 1u) * STAGED <= TILE_N || place + i * STAGED < TILE_N {
                tile[W_TILE + column * PITCH_N + place + i * STAGED] = ws[i];
            }
        }
        workgroupBarrier();
        if start + TILE_K4 < k4_end {
            xs = loaded_x(first_row, place, start + TILE_K4 + column);
            ws = loaded_w(first_col, place, start + TILE_K4 + column);
        }
        for (var k4 = 0u; k4 < TILE_K4; k4 += GROUPS) {
            let x_at = (k4 + part) * PITCH_M + own_row;
            let w_at = W_TILE + (k4 + part) * PITCH_N + own_col;
            var w: array<vec4<f32>, COLS>;
            for (var j = 0u; j < COLS; j++) { // unroll
                w[j] = tile[w_at + j * THREADS_N];
            }
            for (var i = 0u; i < ROWS; i++) { // unroll
                let x = tile[x_at + i * THREADS_M];
                // One step along K after another, so that no product waits for the one before.
                for (var j = 0u; j < COLS; j++) { // unroll
                    sums[i * COLS + j] = fma(x.x, w[j].x, sums[i * COLS + j]);
                }
                for (var j = 0u; j < COLS; j++) { // unroll
                    sums[i * COLS + j] = fma(x.y, w[j].y, sums[i * COLS + j]);
                }
                for (var j = 0u; j < COLS; j++) { // unroll
                    sums[i * COLS + j] = fma(x.z, w[j].z, sums[i * COLS + j]);
                }
                for (var j = 0u; j < COLS; j++) { // unroll
                    sums[i * COLS + j] = fma(x.w, w[j].w, sums[i * COLS + j]);
                }
            }
        }
    }

    for (var i = 0u; i < ROWS; i++) { // unroll
        let row = first_row + own_row + i * THREADS_M;
        if GROUPS > 1u {
            // Other invocations may still be reading the tile, or the sums of the previous row.
            workgroupBarrier();
        }
        for (var j = 0u; j < COLS4; j++) { // unroll
            let four = vec4<f32>(
                sums[i * COLS + 4u * j],
                sums[i * COLS + 4u * j + 1u],
                sums[i * COLS + 4u * j + 2u],
                sums[i * COLS + 4u * j + 3u],
            );
            if GROUPS > 1u {
                tile[j * THREADS + lane] = four;
            } else {
                store_four(row, first_col + 4u * (own_col + j * THREADS_N), four);
            }
        }
        if GROUPS > 1u {
            workgroupBarrier();
            // The groups take turns at the runs of the row, and add up the sums of all groups.
            for (var j = part; j < COLS4; j += GROUPS) {
                var four = tile[j * THREADS + own];
                for (var g = 1u; g < GROUPS; g++) {
                    four += tile[j * THREADS + g * GROUP + own];
                }
                store_four(row, first_col + 4u * (own_col + j * THREADS_N), four);
            }
        }
    }
}
