//! Writes a label map as a NIfTI, NRRD or MetaImage file whose voxel grid is exactly the scan's.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::{Compression, CrcWriter, GzBuilder};

use super::ours::{COMMENT, CRC, nifti_mark};
use crate::archive::NewFile;
use crate::ct::{Geometry, LabelFormat, Scratch, Turn};
use crate::error::{Error, Result};

/// The largest number of labels, background included, that nnU-Net writes as one byte each.
const BYTE: usize = 255;
/// The digits of the largest number of compressed bytes.
const DIGITS: usize = 20;

/// A label map of unsigned integers, written slice by slice. The file gets its name when it is complete. Its voxel grid
/// is the scan's: NIfTI repeats voxel sizes, qform, sform and units to the last bit, NRRD and MetaImage directions,
/// spacing and origin.
#[derive(Debug)]
pub struct LabelFile {
    file: NewFile,
    voxels: Voxels,
    header: Header,
    is_wide: bool,
    /// The slices so far and the turn of their axes, if slices do not come in the file's order.
    turned: Option<(Scratch, Turn)>,
}

/// The file after the header, and the checksum of what is written into it.
type Sink = CrcWriter<BufWriter<File>>;

#[derive(Debug)]
enum Voxels {
    Plain(Sink),
    Gzip(Box<GzEncoder<Sink>>),
    Zlib(Box<ZlibEncoder<Sink>>),
}

/// The fields of a header that are known only when the file is complete.
#[derive(Debug, Default)]
struct Header {
    /// The length of the header in bytes.
    length: u64,
    /// The offset of the mark with the checksum.
    mark: Option<u64>,
    /// The offset of the number of compressed bytes.
    size: Option<u64>,
}

impl LabelFile {
    /// Starts the file at `path` for `classes` labels, numbered from 0. The end of its name decides the format
    /// ([`LabelFormat`]). Each label takes one byte, or two bytes if there are more than 255.
    ///
    /// The slices passed to [`LabelFile::push`] are those of the scan after `turn`. Unless `turn` is
    /// [`Turn::NONE`], the slices first go into a temporary file.
    ///
    /// # Errors
    /// If no format of label maps has such a name, or the file cannot be written there.
    pub fn create(path: impl AsRef<Path>, geometry: &Geometry, classes: usize, turn: Turn) -> Result<Self> {
        let path = path.as_ref();
        let expected = || Error::output(path.display(), format!("expected a name that ends with {}", LabelFormat::ENDINGS.join(", ")));
        let format = LabelFormat::of(path).ok_or_else(expected)?;
        let is_wide = classes > BYTE;
        let turned = if turn == Turn::NONE { None } else { Some((Scratch::new(turn.of_axes(geometry.shape()))?, turn)) };
        let mut file = NewFile::create(path)?;
        let bytes = if is_wide { 2 } else { 1 };
        let (voxels, header) = match format {
            LabelFormat::NiftiGz => {
                let gzip = GzBuilder::new().comment(format!("{COMMENT}{}", env!("CARGO_PKG_VERSION")));
                let mut gzip = gzip.write(sink(&mut file)?, Compression::default());
                gzip.write_all(&geometry.nifti_labels(bytes)).map_err(|e| file.failed(e))?;
                (Voxels::Gzip(Box::new(gzip)), Header::default())
            }
            LabelFormat::Nrrd => {
                let header = Header::write(&mut file, geometry.nrrd_labels(bytes as usize, &mark(0)).as_bytes())?;
                (Voxels::Gzip(Box::new(GzEncoder::new(sink(&mut file)?, Compression::default()))), header)
            }
            LabelFormat::MetaImage => {
                let size = "0".repeat(DIGITS);
                let header = Header::write(&mut file, geometry.metaimage_labels(bytes as usize, &mark(0), &size).as_bytes())?;
                (Voxels::Zlib(Box::new(ZlibEncoder::new(sink(&mut file)?, Compression::default()))), header)
            }
            LabelFormat::Nifti => {
                let labels = geometry.nifti_labels(bytes);
                let header =
                    Header { mark: nifti_mark(&labels).map(|(field, _)| field.start as u64), ..Header::write(&mut file, &labels)? };
                (Voxels::Plain(sink(&mut file)?), header)
            }
        };
        Ok(Self { file, voxels, header, is_wide, turned })
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
        let written = match &mut self.voxels {
            Voxels::Plain(file) => file.write_all(&bytes),
            Voxels::Gzip(file) => file.write_all(&bytes),
            Voxels::Zlib(file) => file.write_all(&bytes),
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
        let Self { mut file, voxels, header, .. } = self;
        let finished = voxels.finish().and_then(|sink| {
            let crc = sink.crc().sum();
            sink.into_inner().into_inner().map(|_| crc).map_err(io::IntoInnerError::into_error)
        });
        let crc = finished.map_err(|e| -> Error { file.failed(e) })?;
        if let Some(at) = header.mark {
            file.write_at(at, mark(crc).as_bytes())?;
        }
        if let Some(at) = header.size {
            let length = file.stream().metadata().map_err(|e| file.failed(e))?.len();
            file.write_at(at, format!("{:0DIGITS$}", length - header.length).as_bytes())?;
        }
        file.commit()
    }
}

impl Voxels {
    /// Writes the bytes that an encoder still holds.
    fn finish(self) -> io::Result<Sink> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zlib(zlib) => zlib.finish(),
        }
    }
}

impl Header {
    /// Writes a header, and finds the placeholders of its unknown fields.
    fn write(file: &mut NewFile, bytes: &[u8]) -> Result<Self> {
        file.write_at(0, bytes)?;
        let offset = |text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes()).map(|at| at as u64);
        Ok(Self { length: bytes.len() as u64, mark: offset(&mark(0)), size: offset(&"0".repeat(DIGITS)) })
    }
}

/// Returns a stream that appends to `file`.
fn sink(file: &mut NewFile) -> Result<Sink> {
    let stream = file.stream().try_clone().map_err(|e| file.failed(e))?;
    Ok(CrcWriter::new(BufWriter::with_capacity(1 << 16, stream)))
}

/// Returns the mark of a label map: this program and its version, and the CRC-32 of all that follows the header.
fn mark(crc: u32) -> String {
    format!("meddino {}{CRC}{crc:08x}", env!("CARGO_PKG_VERSION"))
}
