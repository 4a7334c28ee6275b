@group(0) @binding(2) var<storage, read_write> y: array<YPack>; // [m, N]
@group(0) @binding(3) var<uniform> params: Params;

// y = x weight^T
fn store(row: u32, col: u32, sum: Pack) {
    y[(row * params.pitch + params.first + col) / PACK] = YPack(sum);
}
