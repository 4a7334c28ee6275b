// Stores four columns at once: N and the first column are multiples of four, so all four are inside or none.
fn store_four(row: u32, col: u32, sums: vec4<f32>) {
    store_inside(row < params.m && col < params.n, min(row, params.m - 1u), min(col, params.n - 4u), sums);
}
