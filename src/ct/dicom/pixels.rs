//! Reads the stored values of one frame from the pixel data of a file.

use std::borrow::Cow;
use std::io::{Read, Seek, SeekFrom};

use dicom_dictionary_std::uids;
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};

use super::element::Writing;
use super::frame::{Image, PixelFormat};
use super::header::{OpenFile, chain};
use super::shelter::sheltered;
use super::{codestream, rle};
use crate::error::Problem;

/// A picture of up to this many pixels may be encoded in arbitrarily few bytes: 4096 x 4096, more than any scanner
/// makes.
const ANY_PIXELS: usize = 1 << 24;
/// The most pixels per encoded byte of a larger picture.
const MAX_RATIO: usize = 1000;

/// A part of encapsulated pixel data: its offset and its length in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    start: u64,
    length: u64,
}

/// The fragments of one file, kept from one frame to the next.
#[derive(Debug)]
pub(super) struct Fragments {
    /// The basic offset table: per frame, the distance in bytes from the header of the very first fragment to the
    /// header of the frame's first fragment.
    offsets: Vec<u32>,
    parts: Vec<Fragment>,
}

/// Reads the stored values of frame `index`, row-major. `known` keeps the file's fragments for the next frame.
///
/// # Errors
/// If the file cannot be read, or its pixels cannot be decoded.
pub(super) fn read(image: &Image, index: u32, known: &mut Option<Fragments>) -> Result<Vec<i64>, Problem> {
    let mut bytes = image.encoding.open(&image.path)?;
    let syntax = image.encoding.transfer_syntax;
    let format = image.format;
    let Some(length) = image.pixels.length else {
        let fragments = match known.take() {
            Some(fragments) => fragments,
            None => Fragments::list(&mut bytes, image.pixels.start)?,
        };
        let encoded = fragments.of_frame(&mut bytes, index, image.frames)?;
        *known = Some(fragments);
        return decode(syntax.uid(), &encoded, format);
    };
    let frame = format.len() as u64 * u64::from(format.allocated / 8);
    debug_assert!(frame * (u64::from(index) + 1) <= length, "checked when the header was read");
    let raw = take(&mut bytes, image.pixels.start + frame * u64::from(index), frame)?;
    let writing = image.encoding.writing;
    if writing.big_endian && format.allocated == 8 {
        return Err("8-bit pixels in big endian are not read: convert the file to little endian".into());
    }
    Ok(values(&raw, format.allocated, writing, format))
}

/// Reads `length` bytes from `start`. Checks first that the file holds them.
fn take(bytes: &mut OpenFile, start: u64, length: u64) -> Result<Vec<u8>, Problem> {
    if start.checked_add(length).is_none_or(|end| end > bytes.length) {
        return Err(format!("its pixel data is cut off: {length} bytes at {start} reach beyond its {} bytes", bytes.length).into());
    }
    let mut taken = Vec::new();
    taken.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX)).map_err(|_| format!("no memory for {length} bytes"))?;
    bytes.reader.seek(SeekFrom::Start(start))?;
    (&mut bytes.reader).take(length).read_to_end(&mut taken)?;
    if taken.len() as u64 != length {
        return Err("the file ends inside its pixel data".into());
    }
    Ok(taken)
}

/// Converts raw pixels of `bits` bits to the values that they represent.
fn values(raw: &[u8], bits: u16, writing: Writing, format: PixelFormat) -> Vec<i64> {
    let of = |pixel: &[u8]| {
        let fold = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
        format.value(if writing.big_endian { pixel.iter().fold(0, fold) } else { pixel.iter().rev().fold(0, fold) })
    };
    raw.chunks_exact(usize::from(bits / 8)).map(of).collect()
}

impl Fragments {
    /// Walks the items from the header of the first item at `start`: the basic offset table, then fragments, up to the
    /// delimiter.
    fn list(bytes: &mut OpenFile, start: u64) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut at = start;
        // Some files lack the final delimiter.
        while at + 8 <= bytes.length {
            let head = take(bytes, at, 8)?;
            let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
            match head[..4] {
                [0xFE, 0xFF, 0x00, 0xE0] => parts.push(Fragment { start: at + 8, length }),
                [0xFE, 0xFF, 0xDD, 0xE0] => break,
                _ => return Err(format!("its pixel data is damaged: no fragment begins at byte {at}").into()),
            }
            at += 8 + length;
        }
        if parts.len() < 2 {
            return Err("its pixel data holds no fragment: the file is damaged".into());
        }
        let table = parts.remove(0);
        let table = take(bytes, table.start, table.length)?;
        let offsets = table.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Self { offsets, parts })
    }

    /// Returns the encoded bytes of frame `index` of `frames`: all fragments of a single frame, one fragment per frame,
    /// or the fragments that the offset table gives.
    fn of_frame(&self, bytes: &mut OpenFile, index: u32, frames: u32) -> Result<Vec<u8>, Problem> {
        let (index, frames) = (index as usize, frames as usize);
        let first = self.parts[0].start;
        let parts = if frames == 1 {
            &self.parts[..]
        } else if frames == self.parts.len() {
            &self.parts[index..=index]
        } else if frames == self.offsets.len() {
            let begin = |frame: usize| self.offsets.get(frame).map_or(u64::MAX, |&offset| first + u64::from(offset));
            let from = self.parts.partition_point(|part| part.start < begin(index));
            let to = self.parts.partition_point(|part| part.start < begin(index + 1));
            self.parts.get(from..to).unwrap_or_default()
        } else {
            return Err(format!("{} fragments hold {frames} frames, and no offset table says which", self.parts.len()).into());
        };
        let mut encoded = Vec::new();
        for part in parts {
            encoded.extend(take(bytes, part.start, part.length)?);
        }
        Ok(encoded)
    }
}

/// One encoded frame, in the form that the codecs require.
struct Encoded<'a> {
    uid: &'a str,
    bytes: &'a [u8],
    format: PixelFormat,
    /// Bits per decoded pixel: 8 or 16.
    bits: u16,
}

impl PixelDataObject for Encoded<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.uid
    }
    fn rows(&self) -> Option<u16> {
        Some(self.format.rows)
    }
    fn cols(&self) -> Option<u16> {
        Some(self.format.columns)
    }
    fn samples_per_pixel(&self) -> Option<u16> {
        Some(1)
    }
    fn bits_allocated(&self) -> Option<u16> {
        Some(self.bits)
    }
    fn bits_stored(&self) -> Option<u16> {
        Some(self.format.stored)
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some("MONOCHROME2")
    }
    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }
    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }
    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.bytes))
    }
    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        None
    }
    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        Some(RawPixelData { fragments: vec![self.bytes.to_vec()].into(), offset_table: Vec::new().into() })
    }
}

/// Decodes the stored values of a frame.
fn decode(uid: &str, encoded: &[u8], format: PixelFormat) -> Result<Vec<i64>, Problem> {
    use dicom_encoding::TransferSyntaxIndex;
    let syntax = dicom_transfer_syntax_registry::TransferSyntaxRegistry.get(uid).ok_or("unknown transfer syntax")?;
    let name = syntax.name();
    if uid == uids::RLE_LOSSLESS {
        let raw = rle::decode(encoded, format.len(), usize::from(format.allocated / 8))?;
        return Ok(values(&raw, format.allocated, Writing::EXPLICIT, format));
    }
    let Some(codec) = syntax.pixel_data_reader() else {
        let hint = match uid {
            uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => "build meddino with the feature jpeg-ls, or convert",
            _ => "convert",
        };
        return Err(format!("its pixels are in {name}, which is not read: {hint} the file to Explicit VR Little Endian").into());
    };
    // A picture of nothing but air is short. But a few damaged bytes must not cause an allocation of any size that they
    // claim.
    if format.len() > ANY_PIXELS && format.len() / MAX_RATIO > encoded.len() {
        let PixelFormat { rows, columns, .. } = format;
        return Err(format!("its {name} of {} bytes is too short for {rows} x {columns} pixels: the file is damaged", encoded.len()).into());
    }
    // The codecs trust that a picture has the size that the file states, so check it first.
    let picture = codestream::picture(encoded).ok_or_else(|| format!("its {name} is damaged: it does not begin as a picture"))?;
    let expected = [usize::from(format.rows), usize::from(format.columns), 1];
    let found = [picture.rows, picture.columns, picture.components].map(|n| n as usize);
    if found != expected || picture.bits > format.allocated || picture.bits > 16 {
        let bits = picture.bits;
        return Err(format!(
            "its {name} holds {found:?} rows, columns and components of {bits} bits, where the file says {expected:?} of {}",
            format.allocated
        )
        .into());
    }
    let bits = if picture.bits <= 8 { 8 } else { 16 };
    let mut raw = Vec::new();
    let object = Encoded { uid, bytes: encoded, format, bits };
    let decoded = sheltered(|| codec.decode_frame(&object, 0, &mut raw).map_err(|e| Problem::caused_by(chain(&e), e)));
    decoded.map_err(|problem| problem.within(format_args!("its {name} cannot be decoded")))?;
    let expected = format.len() * usize::from(bits / 8);
    if raw.len() != expected {
        return Err(format!("its {name} is damaged: {} bytes were decoded where {expected} should be", raw.len()).into());
    }
    Ok(values(&raw, bits, Writing::EXPLICIT, format))
}
