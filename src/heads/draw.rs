//! Random numbers from a seed, the same on every machine and in any language: splitmix64 (G. L. Steele, D. Lea and
//! C. H. Flood, "Fast splittable pseudorandom number generators", 2014).

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// Starts sequence `stream` of `seed`. Streams of one seed do not depend on each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(mix(seed.wrapping_add(GOLDEN)) ^ stream.wrapping_add(GOLDEN)) }
    }

    /// Returns the next number below `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_add(GOLDEN);
        ((u128::from(mix(self.state)) * n as u128) >> 64) as usize
    }

    /// Returns the numbers below `n` in random order: the shuffle of Fisher and Yates, from the end.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
