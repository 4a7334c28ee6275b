// For loops that store two columns THREADS_N = RUN apart: one pair.
alias Pack = f32;
alias PackBits = u32;
const PACK: u32 = 1u;

fn put(at: u32, a: Pack, b: Pack) {
    y[at] = YPack(a);
    y[at + RUN] = YPack(b);
}

fn store_two(row: u32, col: u32, first: f32, second: f32) {
    let is_inside = row < params.m && col < params.n;
    store_pair(min(row, params.m - 1u), min(col, params.n - 1u - RUN), is_inside, first, second);
}
