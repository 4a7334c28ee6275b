//! Decodes RLE Lossless (PS3.5, annex G): one segment per byte plane, each packed with PackBits.
//!
//! meddino has its own decoder because the registry's decoder panics where a segment ends early.

/// The length of the header in bytes: the number of segments, then the offsets of up to 15 segments, all as u32.
const HEADER: usize = 64;

/// Decodes one frame's fragment into `pixels` little-endian pixels of `width` bytes. The first segment holds the most
/// significant bytes.
///
/// # Errors
/// If the number of segments is not `width`, or a segment is outside the fragment or holds too few bytes.
pub(super) fn decode(fragment: &[u8], pixels: usize, width: usize) -> Result<Vec<u8>, String> {
    let word = |i: usize| fragment.get(4 * i..4 * i + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    if fragment.len() < HEADER || word(0) != width {
        return Err(format!("its RLE Lossless is damaged: {} segments where {width} should be", word(0)));
    }
    // A run expands each packed byte to at most 64 bytes.
    if fragment.len() < pixels / 64 {
        return Err("its RLE Lossless is damaged: it is too short for its picture".into());
    }
    let mut raw = vec![0; pixels * width];
    for segment in 0..width {
        let end = if segment + 1 == width { fragment.len() } else { word(segment + 2) };
        let packed = fragment.get(word(segment + 1)..end).ok_or("its RLE Lossless is damaged: a segment is outside of it")?;
        let plane = unpack(packed, pixels);
        if plane.len() != pixels {
            return Err(format!("its RLE Lossless is damaged: a segment holds {} pixels where {pixels} should be", plane.len()));
        }
        let significance = width - 1 - segment;
        raw.iter_mut().skip(significance).step_by(width).zip(plane).for_each(|(raw, byte)| *raw = byte);
    }
    Ok(raw)
}

/// Unpacks PackBits, up to `most` bytes. A byte n < 128 is followed by n + 1 literal bytes, n > 128 by one byte to
/// repeat 257 - n times, and 128 by nothing.
fn unpack(mut packed: &[u8], most: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(most);
    while let [n, rest @ ..] = packed
        && bytes.len() < most
    {
        let n = usize::from(*n);
        let run = if n < 128 { &rest[..rest.len().min(n + 1)] } else { &rest[..rest.len().min(usize::from(n > 128))] };
        let times = if n > 128 { 257 - n } else { 1 };
        (0..times).for_each(|_| bytes.extend_from_slice(run));
        packed = &rest[run.len()..];
    }
    bytes.truncate(most);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Apple's technical note 1023, which defined PackBits.
    #[test]
    fn unpacks_the_known_example() {
        let packed = [0xFE, 0xAA, 0x02, 0x80, 0x00, 0x2A, 0xFD, 0xAA, 0x03, 0x80, 0x00, 0x2A, 0x22, 0xF7, 0xAA];
        let expected: &[u8] = &[0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0xAA, 0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0x22];
        let expected = [expected, &[0xAA; 10]].concat();
        assert_eq!(unpack(&packed, 24), expected);
        assert_eq!(unpack(&packed, 5), expected[..5]);
        assert_eq!(unpack(&[128, 0, 7], 24), [7]);
        assert_eq!(unpack(&[5, 1, 2], 24), [1, 2]);
    }
}
