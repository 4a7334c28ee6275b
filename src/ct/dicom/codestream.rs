//! Reads the compression and size of a JPEG, JPEG-LS or JPEG 2000 picture from the picture's own header.
//!
//! The codecs write into a buffer of the size that the DICOM file states. The caller must therefore compare both sizes
//! before it decodes.

use dicom_dictionary_std::uids;

/// The size and depth that a picture states in its own header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PictureHeader {
    pub rows: u32,
    pub columns: u32,
    pub components: u32,
    /// Bits per sample.
    pub bits: u16,
}

/// Returns the picture's own header, or `None` if the picture has none.
pub(super) fn picture(bytes: &[u8]) -> Option<PictureHeader> {
    match bytes {
        [0xFF, 0xD8, rest @ ..] => jpeg(rest),
        [0xFF, 0x4F, 0xFF, 0x51, rest @ ..] => jpeg_2000(rest),
        // Some writers wrap the codestream into the boxes of a JP2 file.
        [0, 0, 0, 12, b'j', b'P', ..] => {
            let at = bytes.windows(4).position(|window| window == [0xFF, 0x4F, 0xFF, 0x51])?;
            jpeg_2000(&bytes[at + 4..])
        }
        _ => None,
    }
}

/// Returns the transfer syntax of a picture that begins with `bytes`, if they identify it.
pub(super) fn compression(bytes: &[u8]) -> Option<&'static str> {
    match *bytes {
        [0xFF, 0xD8, ref rest @ ..] => match frame_header(rest)?.0 {
            0xC3 => Some(uids::JPEG_LOSSLESS_SV1),
            0xC0 => Some(uids::JPEG_BASELINE8_BIT),
            0xC1 => Some(uids::JPEG_EXTENDED12_BIT),
            0xF7 => Some(uids::JPEGLS_LOSSLESS),
            _ => None,
        },
        [0xFF, 0x4F, 0xFF, 0x51, ..] | [0, 0, 0, 12, b'j', b'P', ..] => Some(uids::JPEG2000),
        // RLE: the number of segments, then the offset of the first segment.
        [1..=15, 0, 0, 0, 64, 0, 0, 0, ..] => Some(uids::RLE_LOSSLESS),
        _ => None,
    }
}

/// Returns the name of the format that the codec of a transfer syntax reads.
pub(super) fn family(uid: &str) -> &'static str {
    let compressed = uid.strip_prefix("1.2.840.10008.1.2.4.").and_then(|rest| rest.parse().ok());
    match compressed {
        Some(50..=79) => "JPEG",
        Some(80..=81) => "JPEG-LS",
        Some(90..=93 | 201..=203) => "JPEG 2000",
        _ if uid == uids::RLE_LOSSLESS => "RLE",
        Some(_) => "others",
        None => "uncompressed",
    }
}

/// Reads the frame header (ISO/IEC 10918-1, B.2.2) from the segments after the start of image. SOF55 is JPEG-LS.
fn jpeg(rest: &[u8]) -> Option<PictureHeader> {
    let [bits, r1, r0, c1, c0, components] = frame_header(rest)?.1;
    let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
    Some(PictureHeader { rows: side(r1, r0), columns: side(c1, c0), components: components.into(), bits: bits.into() })
}

/// Returns the marker of the frame header and the bytes after its length field.
fn frame_header(mut rest: &[u8]) -> Option<(u8, [u8; 6])> {
    loop {
        match *rest {
            [0xFF, 0xFF, ..] => rest = &rest[1..],
            // A marker without a segment.
            [0xFF, 0x01 | 0xD0..=0xD7, ..] => rest = &rest[2..],
            // Frame headers. The markers DHT (C4), JPG (C8) and DAC (CC) are in the same range but are no frame
            // headers.
            [0xFF, marker @ (0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7), _, _, a, b, c, d, e, f, ..] => {
                return Some((marker, [a, b, c, d, e, f]));
            }
            [0xFF, _, high, low, ..] => rest = rest.get(2 + usize::from(u16::from_be_bytes([high, low]))..)?,
            _ => return None,
        }
    }
}

/// Reads the SIZ segment (ISO/IEC 15444-1, A.5.1), which directly follows the start of codestream.
fn jpeg_2000(rest: &[u8]) -> Option<PictureHeader> {
    let word = |at: usize| rest.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    // Lsiz and Rsiz take four bytes; then Xsiz, Ysiz, XOsiz, YOsiz, four words of tiles, Csiz, Ssiz, XRsiz, YRsiz.
    let [x, y, x0, y0] = [word(4)?, word(8)?, word(12)?, word(16)?];
    let &[c1, c0, depth, 1, 1] = rest.get(36..41)? else { return None };
    let components = u32::from(u16::from_be_bytes([c1, c0]));
    Some(PictureHeader { rows: y.checked_sub(y0)?, columns: x.checked_sub(x0)?, components, bits: u16::from(depth & 0x7F) + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_size_of_each_kind() {
        let expected = Some(PictureHeader { rows: 3, columns: 512, components: 1, bits: 12 });
        let lossless = [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xFF, 0xC3, 0, 11, 12, 0, 3, 2, 0, 1, 1, 0x11, 0];
        assert_eq!(picture(&lossless), expected);
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        let siz = [&[0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0][..], &words(&[522, 7, 10, 4, 512, 3, 0, 0]), &[0, 1, 0x8B, 1, 1]].concat();
        assert_eq!(picture(&siz), expected);
        for length in 0..lossless.len() - 3 {
            assert_eq!(picture(&lossless[..length]), None, "cut to {length}");
        }
        for length in 0..siz.len() {
            assert_eq!(picture(&siz[..length]), None, "cut to {length}");
        }
    }
}
