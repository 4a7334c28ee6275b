// sum[row, col] = sum over k of x[row, k] weight[col, k], by cooperative matrices of SIDE x SIDE x SIDE over tiles in
// workgroup memory. K is a multiple of four.
//
// A workgroup computes TILE_M rows x TILE_N columns, TILE_K steps along K at a time. Its subgroups form a grid of
// SUBGROUPS_K x SUBGROUPS_M x SUBGROUPS_N; each keeps SUMS_M x SUMS_N matrices of f32 sums over its share of every
// TILE_K. With one buffer (BUFFERS = 1), the next tile is on its way from the bindings to registers while one is multiplied.
// With two, the next tile is staged meanwhile, and the one after it is on its way; a step then has one barrier, not two.
//
// SUBGROUP_SIZE is the most invocations that a subgroup can have. If the driver chose smaller ones, a workgroup has more than
// SUBGROUPS of them, and those past the grid repeat the work of its last. Results are stored by teams of SUBGROUP_SIZE
// neighbours: a subgroup, or several smaller ones.
//
// shared/factors_*.wgsl says how a tile holds four elements of a factor: as PARTS packs of type F, TILE_K elements apart.
// Tiles are [TILE_M, PARTS, TILE_K] and [TILE_N, PARTS, TILE_K], with 16 bytes between rows so that eight rows are loaded
// without bank conflicts. Rows and columns past the end repeat the last one and are not stored; K past the end is zero. A
// shader cannot access elements of a cooperative matrix, so each passes through its subgroup's patch of workgroup memory to
// a team, which calls `store_four`.
//
// Loops over private arrays are unrolled (graph/unroll.rs). LANES is a multiple of TILE_K / 4.
const SUBGROUPS: u32 = SUBGROUPS_K * SUBGROUPS_M * SUBGROUPS_N;
const LANES: u32 = SUBGROUPS * SUBGROUP_SIZE;
const SUMS_M: u32 = TILE_M / SUBGROUPS_M / SIDE;
const SUMS_N: u32 = TILE_N / SUBGROUPS_N / SIDE;
const TILE_K4: u32 = TILE_K / 4u;
const SIDE4: u32 = SIDE / 4u;
const OWN_K4: u32 = TILE_K4 / SUBGROUPS_K;
const STAGED: u32 = LANES / TILE_K4; // rows that the workgroup stages at once
const X_LOADS: u32 = (TILE_M + STAGED - 1u) / STAGED;
const W_LOADS: u32 = (TILE_N + STAGED - 1u) / STAGED;
const X_WHOLE: bool = TILE_M % STAGED == 0u;
const W_WHOLE: bool = TILE_N % STAGED == 0u;
const X_TILE: u32 = TILE_M * PITCH4;
const W_TILE: u32 = TILE_N * PITCH4;
const PATCH_PITCH4: u32 = SIDE4 + 1u;
const PATCH: u32 = SIDE * PATCH_PITCH4;
const SHARERS: u32 = SUBGROUPS_K * SUBGROUP_SIZE; // invocations that store what a patch holds
const STORES: u32 = (SIDE * SIDE4 + SHARERS - 1u) / SHARERS; // vec4s of each of them
const STORES_WHOLE: bool = STORES * SHARERS == SIDE * SIDE4;

var<workgroup> x_tile: array<vec4<F>, BUFFERS * X_TILE>;
var<workgroup> w_tile: array<vec4<F>, BUFFERS * W_TILE>;
var<workgroup> patches: array<vec4<f32>, SUBGROUPS * PATCH>;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) place: u32,
    @builtin(subgroup_size) size: u32,
}

// Elements 4 k4 to 4 k4 + 3 of every STAGED-th row of x, from `row` on.
fn loaded_x(row: u32, k4: u32) -> array<vec4<X>, X_LOADS> {
    var fours: array<vec4<X>, X_LOADS>;
    if WHOLE_K || k4 < params.k / 4u {
        for (var i = 0u; i < X_LOADS; i++) { // unroll
            fours[i] = x[min(row + i * STAGED, params.m - 1u) * (params.k / 4u) + k4];
        }
    }
    return fours;
}

// The same of the weight, whose rows are the product's columns.
fn loaded_w(col: u32, k4: u32) -> array<vec4<W>, W_LOADS> {
    var fours: array<vec4<W>, W_LOADS>;
    if WHOLE_K || k4 < params.k / 4u {
        for (var i = 0u; i < W_LOADS; i++) { // unroll
            fours[i] = weight[weight_row(min(col + i * STAGED, params.n - 1u)) * (params.k / 4u) + k4];
        }
    }
    return fours;
}

// Stages an invocation's share of a tile of x in a buffer.
fn stage_x(fours: array<vec4<X>, X_LOADS>, buffer: u32, lane: u32) {
    let row = lane / TILE_K4;
    for (var i = 0u; i < X_LOADS; i++) { // unroll
        if X_WHOLE || row + i * STAGED < TILE_M {
            let parts = x_parts(fours[i]);
            for (var p = 0u; p < PARTS; p++) { // unroll
                x_tile[buffer * X_TILE + (row + i * STAGED) * PITCH4 + p * TILE_K4 + lane % TILE_K4] = parts[p];
            }
        }
    }
}

fn stage_w(fours: array<vec4<W>, W_LOADS>, buffer: u32, lane: u32) {
    let col = lane / TILE_K4;
    for (var i = 0u; i < W_LOADS; i++) { // unroll
        if W_WHOLE || col + i * STAGED < TILE_N {
            let parts = w_parts(fours[i]);
            for (var p = 0u; p < PARTS; p++) { // unroll
                w_tile[buffer * W_TILE + (col + i * STAGED) * PITCH4 + p * TILE_K4 + lane % TILE_K4] = parts[p];
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let first_row = group.y * TILE_M;
    let first_col = group.x * TILE_N;
    // The matrices that this invocation's subgroup multiplies.
    let subgroup = min(lane.subgroup, SUBGROUPS - 1u);
    let part = subgroup / (SUBGROUPS_M * SUBGROUPS_N);
    let own = subgroup % (SUBGROUPS_M * SUBGROUPS_N);
    let x_own = own / SUBGROUPS_N * SUMS_M * SIDE * PITCH4 + part * OWN_K4;
    let w_own = own % SUBGROUPS_N * SUMS_N * SIDE * PITCH4 + part * OWN_K4;

    // This invocation stages four columns of every STAGED-th row of a tile.
    let column = lane.index % TILE_K4;
    let staged = lane.index / TILE_K4;
    var xs = loaded_x(first_row + staged, column);
    var ws = loaded_w(first_col + staged, column);
    var sums: array<Sum, SUMS_M * SUMS_N>;
    if BUFFERS == 2u {
        stage_x(xs, 0u, lane.index);
        stage_w(ws, 0u, lane.index);
        if 4u * TILE_K4 < params.k {
            xs = loaded_x(first_row + staged, TILE_K4 + column);
            ws = loaded_w(first_col + staged, TILE_K4 + column);
        }
        workgroupBarrier();
    }
    var buffer = 0u; // what is multiplied
    var other = BUFFERS - 1u; // what is staged meanwhile
    for (var start = 0u; 4u * start < params.k; start += TILE_K4) {
        if BUFFERS == 1u {
            // Other invocations may still be reading the previous tile.
            workgroupBarrier();
            stage_x(xs, 0u, lane.index);
            stage_w(ws, 0u, lane.index);
            workgroupBarrier();
        } else if 4u * (start + TILE_K4) < params.k {
            stage_x(xs, other, lane.index);
            stage_w(ws, other, lane.index);
        }
        let loaded = start + BUFFERS * TILE_K4;
        if 4u * loaded < params.k {
            xs = loaded_x(first_row + staged, loaded + column);
            ws = loaded_w(first_col + staged, loaded + column);
        }
        for (var k4 = 0u; k4 < OWN_K4; k4 += SIDE4) { // unroll
            var w: array<Right, PARTS * SUMS_N>;
            for (var j = 0u; j < SUMS_N; j++) { // unroll
                for (var p = 0u; p < PARTS; p++) { // unroll
                    // A column of the product is a row of the weight, so K runs down the matrix.
                    let at = buffer * W_TILE + w_own + j * SIDE * PITCH4 + p * TILE_K4 + k4;
                    w[j * PARTS + p] = coopLoad<Right>(&w_tile[at], PITCH4);
                }
            }
            for (var i = 0u; i < SUMS_M; i++) { // unroll
                let at = buffer * X_TILE + x_own + i * SIDE * PITCH4 + k4;
                let high = coopLoadT<Left>(&x_tile[at], PITCH4);
                if PARTS == 1u {
                    for (var j = 0u; j < SUMS_N; j++) { // unroll
                        sums[i * SUMS_N + j] = coopMultiplyAdd(high, w[j], sums[i * SUMS_N + j]);
                    }
                } else {
                    let at_low = at + TILE_K4;
                    let low = coopLoadT<Left>(&x_tile[at_low], PITCH4);
                    for (var j = 0u; j < SUMS_N; j++) { // unroll
                        // The units truncate while they add. So the sum of SIDE steps begins at zero, with the small
                        // products, and an ordinary addition adds it to the total.
                        let small = coopMultiplyAdd(low, w[j * PARTS], coopMultiplyAdd(high, w[j * PARTS + PARTS - 1u], Sum()));
                        let step = coopMultiplyAdd(high, w[j * PARTS], small * (1.0 / 2048.0));
                        sums[i * SUMS_N + j] = sums[i * SUMS_N + j] + step;
                    }
                }
            }
        }
        if BUFFERS == 2u {
            workgroupBarrier();
            let swapped = other;
            other = buffer;
            buffer = swapped;
        }
    }

    // The sums that this invocation's team stores, over all parts of K.
    let rank = lane.subgroup * lane.size + lane.place;
    let team = min(rank / SUBGROUP_SIZE, SUBGROUPS - 1u);
    let stored = team % (SUBGROUPS_M * SUBGROUPS_N);
    let stored_row = first_row + stored / SUBGROUPS_N * SUMS_M * SIDE;
    let stored_col = first_col + stored % SUBGROUPS_N * SUMS_N * SIDE;
    let sharer = team / (SUBGROUPS_M * SUBGROUPS_N) * SUBGROUP_SIZE + rank % SUBGROUP_SIZE;
    for (var i = 0u; i < SUMS_M; i++) { // unroll
        for (var j = 0u; j < SUMS_N; j++) { // unroll
            let at = subgroup * PATCH;
            coopStoreT(sums[i * SUMS_N + j], &patches[at], PATCH_PITCH4);
            workgroupBarrier();
            for (var s = 0u; s < STORES; s++) { // unroll
                let e = s * SHARERS + sharer;
                if STORES_WHOLE || e < SIDE * SIDE4 {
                    let four_at = stored * PATCH + e / SIDE4 * PATCH_PITCH4 + e % SIDE4;
                    var four = patches[four_at];
                    for (var share = 1u; share < SUBGROUPS_K; share++) { // unroll
                        four += patches[four_at + share * SUBGROUPS_M * SUBGROUPS_N * PATCH];
                    }
                    store_four(stored_row + i * SIDE + e / SIDE4, stored_col + j * SIDE + e % SIDE4 * 4u, four);
                }
            }
            workgroupBarrier();
        }
    }
}
