// Stores four columns one by one, for any number of columns.
fn store_four(row: u32, col: u32, sums: vec4<f32>) {
    if row < params.m {
        for (var i = 0u; i < 4u; i++) { // unroll
            if col + i < params.n {
                store(row, col + i, sums[i]);
            }
        }
    }
}
