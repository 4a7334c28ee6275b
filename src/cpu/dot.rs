//! Products of bf16 numbers summed in f32, a pair at a time, on machines with an instruction for it (AVX512-BF16).
//!
//! The instruction flushes subnormals to zero, and rounds once for each of the pair's products. PyTorch and OpenVINO
//! use the same instruction.

/// Proof that this machine has the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16(Proof);

#[cfg(target_arch = "x86_64")]
type Proof = ();
/// On other architectures the proof cannot be constructed.
#[cfg(not(target_arch = "x86_64"))]
type Proof = std::convert::Infallible;

#[cfg(not(target_arch = "x86_64"))]
impl Bf16 {
    /// Always none on this architecture.
    pub fn here() -> Option<Self> {
        None
    }

    /// As on x86-64.
    pub fn tile(self, _lhs: &[u32], _stride: usize, _strip: &[u32], _out: &mut super::product::Tile) {
        match self.0 {}
    }

    /// As on x86-64.
    pub fn add_eight(self, _lhs: &[u32], _width: usize, _first: usize, _strip: &[u32], _out: &mut [f32]) {
        match self.0 {}
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{__m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_set1_epi32, _mm512_setzero_ps};
    use std::array::from_fn;

    use super::Bf16;
    use crate::cpu::InstructionSet;
    use crate::cpu::product::{COLS, ROWS, Tile};

    impl Bf16 {
        /// The proof, if this machine has the instruction and a lower set is not chosen.
        pub fn here() -> Option<Self> {
            let has = InstructionSet::in_use() == InstructionSet::Avx512
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bf16");
            has.then_some(Self(()))
        }

        /// Computes a tile, `lhs strip`, from lhs [rows, K/2] pairs with 1 to ROWS rows `stride` apart, and strip [K/2,
        /// COLS] pairs. Missing rows repeat the last one.
        pub fn tile(self, lhs: &[u32], stride: usize, strip: &[u32], out: &mut Tile) {
            let last = lhs.len().div_ceil(stride) - 1;
            let half = strip.len() / COLS;
            let lhs: [&[u32]; ROWS] = from_fn(|row| &lhs[row.min(last) * stride..][..half]);
            #[allow(unsafe_code, reason = "an instruction that not every machine has")]
            // SAFETY: only `here` makes a `Bf16`, and only on a machine that has the instruction.
            unsafe {
                rows(lhs, strip, out);
            }
        }

        /// `out += lhs^T strip`: lhs [K/2, width] pairs, of which columns `first..first + 8` make the rows of `out` [8,
        /// COLS]; strip [K/2, COLS] pairs.
        pub fn add_eight(self, lhs: &[u32], width: usize, first: usize, strip: &[u32], out: &mut [f32]) {
            #[allow(unsafe_code, reason = "an instruction that not every machine has")]
            // SAFETY: as above.
            unsafe {
                columns(lhs, width, first, strip, out);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rows(lhs: [&[u32]; ROWS], strip: &[u32], out: &mut Tile) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for (p, rhs) in strip.as_chunks::<COLS>().0.iter().enumerate() {
            let rhs = registers(rhs);
            for (sums, lhs) in sums.iter_mut().zip(&lhs) {
                multiply_add(lhs[p], rhs, sums);
            }
        }
        for (out, sums) in out.as_chunks_mut::<COLS>().0.iter_mut().zip(sums) {
            *out = values(sums);
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn columns(lhs: &[u32], width: usize, first: usize, strip: &[u32], out: &mut [f32]) {
        let mut sums = [[_mm512_setzero_ps(); 2]; 8];
        for (lhs, rhs) in lhs.chunks_exact(width).zip(strip.as_chunks::<COLS>().0) {
            let rhs = registers(rhs);
            let lhs: &[u32; 8] = lhs[first..first + 8].try_into().expect("8 columns");
            for (sums, &lhs) in sums.iter_mut().zip(lhs) {
                multiply_add(lhs, rhs, sums);
            }
        }
        for (out, sums) in out.as_chunks_mut::<COLS>().0.iter_mut().zip(sums) {
            for (out, sum) in out.iter_mut().zip(values(sums)) {
                *out += sum;
            }
        }
    }

    /// `sums += lhs rhs`: one pair, and COLS of them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn multiply_add(lhs: u32, rhs: [__m512i; 2], sums: &mut [__m512; 2]) {
        let lhs = bf16s(_mm512_set1_epi32(lhs.cast_signed()));
        for (sum, rhs) in sums.iter_mut().zip(rhs) {
            *sum = _mm512_dpbf16_ps(*sum, lhs, bf16s(rhs));
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn registers(pairs: &[u32; COLS]) -> [__m512i; 2] {
        bytemuck::must_cast(*pairs)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn values(sums: [__m512; 2]) -> [f32; COLS] {
        bytemuck::must_cast(sums)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16s(pairs: __m512i) -> __m512bh {
        #[allow(unsafe_code, reason = "the standard library has no cast between the two")]
        // SAFETY: both are 512 bits of which every pattern is a value.
        unsafe {
            std::mem::transmute(pairs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bf16;
    use crate::cpu::bf16::{Pairs, pairs_along, pairs_down};
    use crate::cpu::product::{COLS, ROWS, Tile};

    fn values(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| half::bf16::from_f32((i as f32 * step).sin()).to_f32()).collect()
    }

    /// The machine's proof, or a message that nothing was tested.
    fn bf16() -> Option<Bf16> {
        let here = Bf16::here();
        if here.is_none() {
            eprintln!("SKIPPED: this machine has no AVX512-BF16");
        }
        here
    }

    #[test]
    fn tiles_equal_their_definition_at_every_length() {
        let Some(bf16) = bf16() else { return };
        for (k, m) in [(1, 12), (2, 1), (31, 11), (64, 12), (127, 2), (128, 12), (129, 7), (300, 12)] {
            let (rows, cols) = (values(m * k, 0.37), values((COLS - 5) * k, 0.91));
            let pairs = Pairs::of_transposed(&cols, k);
            let mut out: Tile = [7.0; ROWS * COLS];
            bf16.tile(&pairs_along(&rows, k), k.div_ceil(2), pairs.strip(0), &mut out);
            for (i, got) in out.iter().enumerate() {
                let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                let want = rows.chunks(k).nth((i / COLS).min(m - 1)).zip(cols.chunks(k).nth(i % COLS)).map_or(0.0, dot);
                assert!((f64::from(*got) - want).abs() < 2e-5, "{k}: {got} for {want} at {i}");
            }
        }
    }

    #[test]
    fn eight_columns_are_added_to_what_is_there() {
        let Some(bf16) = bf16() else { return };
        let (k, width) = (37, 24);
        let (lhs, strip) = (values(k * width, 0.37), values(k * COLS, 0.91));
        let (mut lhs_pairs, mut strip_pairs) = (vec![0; k.div_ceil(2) * width], vec![0; k.div_ceil(2) * COLS]);
        pairs_down(&lhs, width, &mut lhs_pairs);
        pairs_down(&strip, COLS, &mut strip_pairs);
        for first in [0, 8, 16] {
            let mut out = values(8 * COLS, 0.11);
            let before = out.clone();
            bf16.add_eight(&lhs_pairs, width, first, &strip_pairs, &mut out);
            for (i, (got, before)) in out.iter().zip(before).enumerate() {
                let dot: f64 = (0..k).map(|p| f64::from(lhs[p * width + first + i / COLS]) * f64::from(strip[p * COLS + i % COLS])).sum();
                assert!((f64::from(*got) - f64::from(before) - dot).abs() < 2e-5, "{first} at {i}");
            }
        }
    }
}
