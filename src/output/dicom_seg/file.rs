//! A DICOM SEG, written when all of its slices are known.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use flate2::CrcWriter;

use super::data_set::data_set;
use super::frames::Frames;
use super::header::SegHeader;
use super::settings::SegKind;
use super::uid::uid;
use crate::archive::NewFile;
use crate::ct::{Scratch, Turn};
use crate::error::{Error, Problem, Result};
use crate::output::ours::{CRC, DICOM_MARK};

/// The longest pixel data, in bytes. The length has 32 bits, is even, and is not the one that means "undefined".
const MAX_PIXELS: u64 = u32::MAX as u64 - 1;

/// A `.dcm` of labels, written as one instance. The file gets its name when it is complete.
///
/// Frames without a labelled voxel are left out, and so are binary segments without a frame. If no voxel is labelled,
/// the file holds one empty frame of the first label, because an image without a frame is not allowed.
#[derive(Debug)]
pub struct SegFile {
    header: SegHeader,
    file: NewFile,
    frames: Frames,
    present: BTreeSet<u16>,
    /// The slices so far and the turn of their axes, if slices do not come in the scan's order.
    turned: Option<(Scratch, Turn)>,
}

impl SegFile {
    /// Starts the file at `path` for labels below `classes`. Its slices come after `turn`, as for
    /// [`crate::output::LabelFile::create`].
    ///
    /// # Errors
    /// If the file cannot be written there, or no temporary file can be made.
    pub fn create(path: impl AsRef<Path>, header: SegHeader, classes: usize, turn: Turn) -> Result<Self> {
        let file = NewFile::create(path)?;
        let [rows, columns] = header.images.size;
        let shape = [header.images.slices.len(), rows, columns];
        let turned = if turn == Turn::NONE { None } else { Some((Scratch::new(turn.of_axes(shape))?, turn)) };
        let frames = Frames::new(header.kind, rows * columns, classes).map_err(temporary)?;
        Ok(Self { header, file, frames, present: BTreeSet::new(), turned })
    }

    /// Adds the next slice, row-major.
    ///
    /// # Errors
    /// If the disk is full or fails, or the frames exceed what a DICOM file can hold.
    pub fn push(&mut self, labels: &[u16]) -> Result<()> {
        match &mut self.turned {
            Some((scratch, _)) => scratch.push(&labels.iter().map(|label| f32::from(*label)).collect::<Vec<_>>()),
            None => self.add(labels),
        }
    }

    fn add(&mut self, labels: &[u16]) -> Result<()> {
        self.present.extend(self.frames.push(labels).map_err(temporary)?);
        if self.frames.length() <= MAX_PIXELS {
            return Ok(());
        }
        let advice = match self.header.kind {
            SegKind::Binary => "write a `labelmap`, which is smaller, or leave out `seg`",
            SegKind::LabelMap => "leave out `seg`",
        };
        let problem = format!("its frames take more than {MAX_PIXELS} bytes, the most that a DICOM file can hold; {advice}");
        Err(self.file.failed(problem))
    }

    /// Writes the file and renames it to its target.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn finish(mut self) -> Result<()> {
        if let Some((scratch, turn)) = self.turned.take() {
            let mut volume = scratch.into_volume("labels").turned(turn.back())?;
            for index in 0..volume.slices() {
                let labels: Vec<u16> = volume.read_slice(index)?.data().iter().map(|v| *v as u16).collect();
                self.add(&labels)?;
            }
        }
        if self.present.is_empty() {
            self.frames.push_empty(self.header.first).map_err(temporary)?;
            self.present.insert(self.header.first);
        }
        self.write().map_err(|problem| self.file.failed(problem))?;
        self.file.commit()
    }

    /// Writes preamble, meta information, data set and pixels.
    fn write(&mut self) -> Result<(), Problem> {
        let (birth, list) = (self.header.birth(), self.frames.list());
        let object = data_set(&self.header, &birth, &list, self.frames.bits(), &self.present)?;
        let mut to = BufWriter::with_capacity(1 << 16, self.file.stream());
        to.write_all(&preamble("00000000"))?;
        to.write_all(b"DICM")?;
        let mut to = CrcWriter::new(to);
        write_head(&mut to, &object, self.header.kind, &birth.instance())?;
        let length = self.frames.length();
        let vr = if self.frames.bits() > 8 { VR::OW } else { VR::OB };
        let (tag, vr) = (tags::PIXEL_DATA, vr.to_bytes());
        to.write_all(
            &[&tag.group().to_le_bytes()[..], &tag.element().to_le_bytes(), &vr, &[0; 2], &(length as u32).to_le_bytes()].concat(),
        )?;
        self.frames.write(&list, &mut to)?;
        let crc = format!("{:08x}", to.crc().sum());
        to.into_inner().into_inner().map_err(io::IntoInnerError::into_error)?;
        self.file.write_at(0, &preamble(&crc)).map_err(|error| Problem::from(error.to_string()))
    }
}

/// Writes the meta information and the data set before the pixels.
fn write_head(mut to: impl Write, object: &InMemDicomObject, kind: SegKind, instance: &str) -> Result<(), Problem> {
    let syntax = TransferSyntaxRegistry.get(uids::EXPLICIT_VR_LITTLE_ENDIAN).expect("the syntax of every reader");
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(kind.class())
        .media_storage_sop_instance_uid(instance)
        .transfer_syntax(syntax.uid())
        .implementation_class_uid(uid("meddino", "implementation"))
        .implementation_version_name(concat!("MEDDINO_", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| e.to_string())?;
    meta.write(&mut to).map_err(|e| e.to_string())?;
    Ok(object.write_dataset_with_ts(&mut to, syntax).map_err(|e| e.to_string())?)
}

/// Returns the preamble, which DICOM leaves to the writer: the mark by which this program knows its own file, with the
/// checksum of everything behind "DICM".
fn preamble(crc: &str) -> [u8; 128] {
    let text = format!("{DICOM_MARK}{}{CRC}{crc}", env!("CARGO_PKG_VERSION"));
    let mut preamble = [0; 128];
    preamble[..text.len()].copy_from_slice(text.as_bytes());
    preamble
}

fn temporary(error: io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::output(
        "a temporary file",
        Problem::caused_by(format!("{error} in {}; make room there, or name another folder in TMPDIR", folder.display()), error),
    )
}
