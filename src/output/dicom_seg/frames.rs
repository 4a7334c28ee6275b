//! The frames of a segmentation: slices in which a label appears, kept in a temporary file until all are known.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::settings::SegKind;
use crate::count::product;

/// The frames so far.
#[derive(Debug)]
pub(super) struct Frames {
    kind: SegKind,
    /// Number of pixels of a frame.
    pixels: usize,
    /// Bytes per pixel of a label map.
    bytes: usize,
    store: File,
    kept: Vec<Kept>,
    slices: usize,
}

/// A frame that is kept. It lies in the temporary file at its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The label, or 0 if the frame is one of a label map.
    pub label: u16,
    /// The slice of the scan.
    pub slice: usize,
    /// Its place in the temporary file.
    index: usize,
}

impl Frames {
    /// Starts with no frame. A frame has `pixels` pixels, and the labels are below `classes`.
    ///
    /// # Errors
    /// If no temporary file can be made.
    pub fn new(kind: SegKind, pixels: usize, classes: usize) -> io::Result<Self> {
        let bytes = if classes > 256 { 2 } else { 1 };
        Ok(Self { kind, pixels, bytes, store: tempfile::tempfile()?, kept: Vec::new(), slices: 0 })
    }

    /// Keeps the frames of the next slice. Returns the labels that it holds.
    ///
    /// # Errors
    /// If the temporary file cannot be written.
    pub fn push(&mut self, labels: &[u16]) -> io::Result<Vec<u16>> {
        debug_assert_eq!(labels.len(), self.pixels);
        let mut masks: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        for (pixel, &label) in labels.iter().enumerate().filter(|(_, label)| **label != 0) {
            masks.entry(label).or_insert_with(|| vec![0; self.pixels.div_ceil(8)])[pixel / 8] |= 1 << (pixel % 8);
        }
        let present = masks.keys().copied().collect();
        match self.kind {
            SegKind::Binary => masks.iter().try_for_each(|(label, mask)| self.keep(*label, self.slices, mask))?,
            SegKind::LabelMap if masks.is_empty() => {}
            SegKind::LabelMap => self.keep(0, self.slices, &self.bytes_of(labels))?,
        }
        self.slices += 1;
        Ok(present)
    }

    /// Keeps an empty frame of `label` in the first slice, because an image has at least one frame.
    ///
    /// # Errors
    /// If the temporary file cannot be written.
    pub fn push_empty(&mut self, label: u16) -> io::Result<()> {
        let (label, bytes) = match self.kind {
            SegKind::Binary => (label, self.pixels.div_ceil(8)),
            SegKind::LabelMap => (0, self.pixels * self.bytes),
        };
        self.keep(label, 0, &vec![0; bytes])
    }

    fn bytes_of(&self, labels: &[u16]) -> Vec<u8> {
        if self.bytes == 1 {
            labels.iter().map(|label| *label as u8).collect()
        } else {
            labels.iter().flat_map(|label| label.to_le_bytes()).collect()
        }
    }

    fn keep(&mut self, label: u16, slice: usize, bytes: &[u8]) -> io::Result<()> {
        self.kept.push(Kept { label, slice, index: self.kept.len() });
        self.store.write_all(bytes)
    }

    /// Returns the frames, by label and then by slice.
    pub fn list(&self) -> Vec<Kept> {
        let mut list = self.kept.clone();
        list.sort_by_key(|kept| (kept.label, kept.slice));
        list
    }

    /// Returns the number of bits of a pixel.
    pub fn bits(&self) -> u16 {
        match self.kind {
            SegKind::Binary => 1,
            SegKind::LabelMap => 8 * self.bytes as u16,
        }
    }

    /// Returns the length of the pixel data in bytes, which is even.
    pub fn length(&self) -> u64 {
        let bits = self.kept.len() as u64 * self.pixels as u64 * u64::from(self.bits());
        bits.div_ceil(8).next_multiple_of(2)
    }

    /// Writes the pixel data: the frames of `list`, one directly after another, the first pixel in the lowest bit.
    ///
    /// # Errors
    /// If the temporary file cannot be read, or `to` cannot be written.
    pub fn write(&mut self, list: &[Kept], mut to: impl Write) -> io::Result<()> {
        let bits = self.pixels * usize::from(self.bits());
        let mut frame = vec![0; bits.div_ceil(8)];
        let mut stream = BitStream::default();
        for kept in list {
            self.store.seek(SeekFrom::Start(product(&[kept.index, frame.len()])))?;
            self.store.read_exact(&mut frame)?;
            to.write_all(&stream.push(&frame, bits))?;
        }
        let mut end = stream.end();
        let is_odd = (list.len() as u64 * bits as u64).div_ceil(8) % 2 == 1;
        end.extend(is_odd.then_some(0));
        to.write_all(&end)
    }
}

/// Joins bits of frames that need not fill whole bytes.
#[derive(Default)]
struct BitStream {
    /// The bits that do not fill a byte yet, from the lowest.
    rest: u16,
    /// Their number, below 8.
    count: usize,
}

impl BitStream {
    /// Appends the first `bits` bits of `frame`, whose other bits are 0. Returns the bytes that are full.
    fn push(&mut self, frame: &[u8], bits: usize) -> Vec<u8> {
        let mut full = Vec::with_capacity(frame.len() + 1);
        for (index, byte) in frame.iter().enumerate() {
            self.rest |= u16::from(*byte) << self.count;
            self.count += (bits - 8 * index).min(8);
            if self.count >= 8 {
                full.push(self.rest as u8);
                self.rest >>= 8;
                self.count -= 8;
            }
        }
        full
    }

    /// Returns the last byte, if bits are left.
    fn end(self) -> Vec<u8> {
        if self.count > 0 { vec![self.rest as u8] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of any size follow each other without a gap, by label and then by slice.
    #[test]
    fn bits_of_frames_follow_each_other_without_a_gap() {
        for pixels in [1, 3, 8, 13, 24, 31] {
            let slices: Vec<Vec<u16>> =
                (0..4).map(|slice| (0..pixels).map(|pixel| ((pixel * pixel + 5 * slice) % 4) as u16).collect()).collect();
            let mut frames = Frames::new(SegKind::Binary, pixels, 4).expect("a file");
            let mut expected = Vec::new();
            for slice in &slices {
                let mut present: Vec<u16> = slice.iter().copied().filter(|label| *label > 0).collect();
                present.sort_unstable();
                present.dedup();
                assert_eq!(frames.push(slice).expect("kept"), present);
            }
            for label in 1..4 {
                for slice in slices.iter().filter(|slice| slice.contains(&label)) {
                    expected.extend(slice.iter().map(|found| *found == label));
                }
            }
            let (list, mut bytes) = (frames.list(), Vec::new());
            frames.write(&list, &mut bytes).expect("written");
            assert_eq!(bytes.len() as u64, frames.length());
            let found: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
            assert_eq!(found[..expected.len()], expected, "{pixels} pixels");
            assert!(found[expected.len()..].iter().all(|bit| !bit) && found.len() - expected.len() < 16);
        }
    }

    #[test]
    fn a_label_map_leaves_out_empty_slices() {
        let mut frames = Frames::new(SegKind::LabelMap, 3, 400).expect("a file");
        for slice in [[0, 0, 0], [0, 399, 1], [0, 0, 0], [2, 0, 0]] {
            frames.push(&slice).expect("kept");
        }
        let list = frames.list();
        assert_eq!(list.iter().map(|kept| kept.slice).collect::<Vec<_>>(), [1, 3]);
        let mut bytes = Vec::new();
        frames.write(&list, &mut bytes).expect("written");
        assert_eq!(bytes, [0, 0, 143, 1, 1, 0, 2, 0, 0, 0, 0, 0]);
        assert_eq!(frames.length(), 12);
    }
}
