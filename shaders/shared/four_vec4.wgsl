// Stores four columns at once: N and the first column are multiples of four, so all four are inside or none. Only the
// store is in a branch: then a driver that unrolls the caller's loop reads what all its rounds need at the same time.
fn store_four(row: u32, col: u32, sums: vec4<f32>) {
    let n = params.first + min(col, params.n - 4u);
    let at = (min(row, params.m - 1u) * params.pitch + n) / 4u;
    let four = YPack(finished(at, n / 4u, sums));
    if row < params.m && col < params.n {
        y[at] = four;
    }
}
