// y = epilogue(x weight^T): [rows, K] times [N, K] as checkpoints store it, to [rows, N]; elements are X, W and Y, sums
// f32.
//
// The other parts are matmul/operands_*.wgsl, which reads rows of x and of the weight; one of the epilogues in matmul/,
// which makes an element of y from a sum; and the loop over K in shared/gemm_*.wgsl, whose header assigns work to
// invocations, and which stores through shared/four_*.wgsl or two_f32.wgsl. A dispatch may
// compute some columns only: those of the bound rows of the weight, from column `first` on.
struct Params {
    m: u32, // bound rows of x and y
    n: u32, // bound rows of the weight: columns of this dispatch
    k: u32, // K
    first: u32, // first column of this dispatch
    pitch: u32, // N: the length of y's rows
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

// Stores what follows from a sum if `is_inside`. Only the store is in a branch: where loops are unrolled, what all rounds read
// for it is on its way at the same time.
fn store_inside(is_inside: bool, row: u32, col: u32, sum: Pack) {
    let n = params.first + col;
    let at = (row * params.pitch + n) / PACK;
    let value = YPack(finished(at, n / PACK, sum));
    if is_inside {
        y[at] = value;
    }
}

fn store(row: u32, col: u32, sum: Pack) {
    store_inside(true, row, col, sum);
}

// Returns the bound row of the weight that gives a column of this dispatch.
fn weight_row(col: u32) -> u32 {
    return col;
}
