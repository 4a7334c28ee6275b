//! Writes a label map as a NIfTI file whose voxel grid is exactly the scan's.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use flate2::{Compression, Crc, GzBuilder};

use super::ours::{COMMENT, CRC, DESCRIP};
use crate::archive::NewFile;
use crate::ct::{Geometry, Scratch, Turn};
use crate::error::{Error, Result};

/// The largest number of labels, background included, that nnU-Net writes as one byte each.
const BYTE: usize = 255;

/// A `.nii` or `.nii.gz` of unsigned integers, written slice by slice. The file gets its name when it is complete.
/// Voxel sizes, qform, sform and units are bit-identical to the scan's.
#[derive(Debug)]
pub struct LabelFile {
    file: NewFile,
    voxels: Voxels,
    crc: Crc,
    is_wide: bool,
    /// The slices so far and the turn of their axes, if slices do not come in the file's order.
    turned: Option<(Scratch, Turn)>,
}

#[derive(Debug)]
enum Voxels {
    Plain(BufWriter<std::fs::File>),
    Gzip(Box<GzEncoder<BufWriter<std::fs::File>>>),
}

impl LabelFile {
    /// Starts the file at `path` for `classes` labels, numbered from 0. The file is compressed if `path` ends in `.gz`.
    /// Each label takes one byte, or two bytes if there are more than 255.
    ///
    /// The slices passed to [`LabelFile::push`] are those of the scan after `turn`. Unless `turn` is
    /// [`Turn::NONE`], the slices first go into a temporary file.
    ///
    /// # Errors
    /// If the file cannot be written there.
    pub fn create(path: impl AsRef<Path>, geometry: &Geometry, classes: usize, turn: Turn) -> Result<Self> {
        let path = path.as_ref();
        let mut file = NewFile::create(path)?;
        let stream = file.stream().try_clone().map_err(|e| file.failed(e))?;
        let buffer = BufWriter::with_capacity(1 << 16, stream);
        let is_gzip = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
        let gzip = GzBuilder::new().comment(format!("{COMMENT}{}", env!("CARGO_PKG_VERSION")));
        let voxels = if is_gzip { Voxels::Gzip(Box::new(gzip.write(buffer, Compression::default()))) } else { Voxels::Plain(buffer) };
        let is_wide = classes > BYTE;
        let turned = if turn == Turn::NONE { None } else { Some((Scratch::new(turn.of_axes(geometry.shape()))?, turn)) };
        let mut labels = Self { file, voxels, crc: Crc::new(), is_wide, turned };
        labels.write_all(&geometry.nifti_labels(if is_wide { 2 } else { 1 }))?;
        Ok(labels)
    }

    /// Writes the next slice, row-major.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn push(&mut self, labels: &[u16]) -> Result<()> {
        match &mut self.turned {
            Some((scratch, _)) => scratch.push(&labels.iter().map(|label| f32::from(*label)).collect::<Vec<_>>()),
            None => self.write(labels.iter().copied()),
        }
    }

    fn write(&mut self, labels: impl Iterator<Item = u16>) -> Result<()> {
        let bytes: Vec<u8> =
            if self.is_wide { labels.flat_map(u16::to_le_bytes).collect() } else { labels.map(|label| label as u8).collect() };
        self.crc.update(&bytes);
        self.write_all(&bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match &mut self.voxels {
            Voxels::Plain(file) => file.write_all(bytes),
            Voxels::Gzip(file) => file.write_all(bytes),
        };
        written.map_err(|e| self.file.failed(e))
    }

    /// Completes the file and renames it to its target.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn finish(mut self) -> Result<()> {
        if let Some((scratch, turn)) = self.turned.take() {
            let mut volume = scratch.into_volume("labels").turned(turn.back())?;
            for index in 0..volume.slices() {
                let slice = volume.read_slice(index)?;
                self.write(slice.data().iter().map(|v| *v as u16))?;
            }
        }
        let Self { mut file, voxels, crc, .. } = self;
        let is_plain = matches!(voxels, Voxels::Plain(_));
        let flush = |buffer: BufWriter<std::fs::File>| buffer.into_inner().map(drop).map_err(io::IntoInnerError::into_error);
        let flushed = match voxels {
            Voxels::Plain(buffer) => flush(buffer),
            Voxels::Gzip(gzip) => gzip.finish().and_then(flush),
        };
        flushed.map_err(|e: io::Error| -> Error { file.failed(e) })?;
        if is_plain {
            let about = format!("meddino {}{CRC}{:08x}", env!("CARGO_PKG_VERSION"), crc.sum());
            file.write_at(DESCRIP.start as u64, about.as_bytes())?;
        }
        file.commit()
    }
}
