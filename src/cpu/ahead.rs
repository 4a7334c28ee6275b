//! Memory that will be read next, brought into the caches while something else is computed.

use std::slice::Chunks;

/// Numbers in a cache line of 64 bytes.
const LINE: usize = 16;

/// Values that will be read next, in equal pieces. Each piece is fetched at another moment, because a CPU has room for
/// a few dozen requests at a time.
pub struct Ahead<'a> {
    pieces: Chunks<'a, f32>,
}

impl<'a> Ahead<'a> {
    /// Divides `values` into at most `count` pieces of whole cache lines.
    pub fn new(values: &'a [f32], count: usize) -> Self {
        let length = values.len().div_ceil(count.max(1)).next_multiple_of(LINE).max(LINE);
        Self { pieces: values.chunks(length) }
    }

    /// Nothing to fetch.
    pub fn nothing() -> Self {
        Self::new(&[], 1)
    }

    /// Asks for the next piece, and does not wait for it.
    #[inline]
    pub fn fetch(&mut self) {
        self.pieces.next().unwrap_or_default().chunks(LINE).for_each(request);
    }
}

/// Asks for the line in which `line` begins. Rust has such a request for x86-64 only; elsewhere nothing is asked for.
#[inline]
fn request(line: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "the intrinsic takes a pointer")]
    // SAFETY: every x86-64 CPU has the instruction, which changes no value and faults at no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_all_values_in_at_most_as_many_as_asked_for() {
        for (length, count) in [(0, 0), (0, 5), (1, 3), (16, 1), (1000, 7), (24_576, 24), (98_304, 10)] {
            let values: Vec<f32> = (0..length).map(|v| v as f32).collect();
            let mut ahead = Ahead::new(&values, count);
            let pieces: Vec<&[f32]> = ahead.pieces.clone().collect();
            assert!(pieces.len() <= count, "{} pieces of {length} for {count}", pieces.len());
            assert_eq!(pieces.concat(), values);
            (0..=count).for_each(|_| ahead.fetch());
            assert!(ahead.pieces.next().is_none(), "{length} in {count}");
        }
    }
}
