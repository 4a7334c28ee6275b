// y = epilogue(x weight^T): [rows, K] times [N, K] as checkpoints store it, to [rows, N]; elements are X, W and Y, sums f32.
//
// With it stand matmul/operands_*.wgsl (how rows of x and the weight are read), one epilogue of matmul/, which stores, and
// the loop over K of shared/gemm_*.wgsl, whose head says which invocation does what. A dispatch may do some columns only, those of the
// bound rows of the weight, `first` being the first of them.
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
