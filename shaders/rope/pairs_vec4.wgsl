// For loops that store four columns at once: two pairs, RUN = 2.
alias Pack = vec2<f32>;
alias PackBits = vec2<u32>;
const PACK: u32 = 2u;

fn put(at: u32, a: Pack, b: Pack) {
    y[at / 4u] = YPack(vec4<f32>(a, b));
}

fn store_four(row: u32, col: u32, sums: vec4<f32>) {
    let is_inside = row < params.m && col < params.n;
    store_pair(min(row, params.m - 1u), min(col, params.n - 4u), is_inside, sums.xy, sums.zw);
}
