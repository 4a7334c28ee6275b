// sum[row, col] = sum over k of x[row, k] weight[col, k], by cooperative matrices of SIDE x SIDE x SIDE over tiles in
// workgroup memory.
//
// A workgroup computes TILE_M rows x TILE_N columns, TILE_K steps along K at a time. Its subgroups form a grid of
// SUBGROUPS_M x SUBGROUPS_N; each keeps SUMS_M x SUMS_N matrices of f32 sums. Tiles are [TILE_M, TILE_K] and [TILE_N,
// TILE_K], of type F. Their row stride of TILE_PITCH avoids bank conflicts. Outside x and the weight, tiles are zero. A
// shader cannot access single elements of a cooperative matrix, so each matrix passes through its subgroup's patch of
// workgroup memory to `store`.
const SUMS_M: u32 = TILE_M / SUBGROUPS_M / SIDE;
const SUMS_N: u32 = TILE_N / SUBGROUPS_N / SIDE;
const TILE_K4: u32 = TILE_K / 4u;

var<workgroup> x_tile: array<F, TILE_M * TILE_PITCH>;
var<workgroup> w_tile: array<F, TILE_N * TILE_PITCH>;
var<workgroup> patches: array<f32, SUBGROUPS_M * SUBGROUPS_N * SIDE * SIDE>;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) place: u32,
}

fn stage_x(start: u32, first_row: u32, lane: u32) {
    for (var i = lane; i < TILE_M * TILE_K4; i += LANES) {
        let k4 = start + i % TILE_K4;
        let row = first_row + i / TILE_K4;
        var four = vec4<f32>(0.0);
        if 4u * k4 < params.k && row < params.m {
            four = load_x(row, k4);
        }
        let at = i / TILE_K4 * TILE_PITCH + i % TILE_K4 * 4u;
        for (var j = 0u; j < 4u; j++) {
            x_tile[at + j] = F(four[j]);
        }
    }
}

fn stage_w(start: u32, first_col: u32, lane: u32) {
    for (var i = lane; i < TILE_N * TILE_K4; i += LANES) {
        let k4 = start + i % TILE_K4;
        let col = first_col + i / TILE_K4;
        var four = vec4<f32>(0.0);
        if 4u * k4 < params.k && col < params.n {
            four = load_w(col, k4);
        }
        let at = i / TILE_K4 * TILE_PITCH + i % TILE_K4 * 4u;
        for (var j = 0u; j < 4u; j++) {
            w_tile[at + j] = F(four[j]);
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let first_row = group.y * TILE_M;
    let first_col = group.x * TILE_N;
    let own_row = lane.subgroup / SUBGROUPS_N * SUMS_M * SIDE;
    let own_col = lane.subgroup % SUBGROUPS_N * SUMS_N * SIDE;

    var sums: array<Sum, SUMS_M * SUMS_N>;
    for (var start = 0u; 4u * start < params.k; start += TILE_K4) {
        stage_x(start, first_row, lane.index);
        stage_w(start, first_col, lane.index);
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k += SIDE) {
            var w: array<Right, SUMS_N>;
            for (var j = 0u; j < SUMS_N; j++) {
                // A column of the product is a row of the weight, so K runs down the matrix.
                let at = (own_col + j * SIDE) * TILE_PITCH + k;
                w[j] = coopLoad<Right>(&w_tile[at], TILE_PITCH);
            }
            for (var i = 0u; i < SUMS_M; i++) {
                let at = (own_row + i * SIDE) * TILE_PITCH + k;
                let x = coopLoadT<Left>(&x_tile[at], TILE_PITCH);
                for (var j = 0u; j < SUMS_N; j++) {
                    sums[i * SUMS_N + j] = coopMultiplyAdd(x, w[j], sums[i * SUMS_N + j]);
                }
            }
        }
        workgroupBarrier();
    }

    let patch_start = lane.subgroup * SIDE * SIDE;
    for (var i = 0u; i < SUMS_M; i++) {
        for (var j = 0u; j < SUMS_N; j++) {
            coopStoreT(sums[i * SUMS_N + j], &patches[patch_start], SIDE);
            workgroupBarrier();
            for (var e = lane.place; e < SIDE * SIDE; e += SUBGROUP_SIZE) {
                let row = first_row + own_row + i * SIDE + e / SIDE;
                let col = first_col + own_col + j * SIDE + e % SIDE;
                if row < params.m && col < params.n {
                    store(row, col, patches[patch_start + e]);
                }
            }
            workgroupBarrier();
        }
    }
}
