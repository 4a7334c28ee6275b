// For loops that store four columns at once: two pairs, RUN = 2.
alias Pack = vec2<f32>;
alias PackBits = vec2<u32>;
const PACK: u32 = 2u;

fn put(at: u32, a: Pack, b: Pack) {
    y[at / 4u] = YPack(vec4<f32>(a, b));
}

fn store_four(row: u32, col: u32, sums: vec4<f32>) {
    if row < params.m && col < params.n {
        store_pair(row, col, sums.xy, sums.zw);
    }
}
