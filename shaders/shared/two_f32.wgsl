// Stores two columns that are THREADS_N apart, for any number of columns.
fn store_two(row: u32, col: u32, first: f32, second: f32) {
    if row < params.m {
        if col < params.n {
            store(row, col, first);
        }
        if col + THREADS_N < params.n {
            store(row, col + THREADS_N, second);
        }
    }
}
