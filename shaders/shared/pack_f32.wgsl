// Rows of any length are read and written one element at a time.
alias Pack = f32;
alias PackBits = u32;
const PACK: u32 = 1u;

fn total(p: Pack) -> f32 {
    return p;
}
