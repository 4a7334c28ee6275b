// Rows whose length is a multiple of four are read and written four elements at a time.
alias Pack = vec4<f32>;
alias PackBits = vec4<u32>;
const PACK: u32 = 4u;

fn total(p: Pack) -> f32 {
    return (p.x + p.y) + (p.z + p.w);
}
