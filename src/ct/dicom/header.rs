//! What a DICOM file says before its pixels: the elements that bear on HU and geometry, and where the pixel data lies.
//!
//! A file is walked token by token and nothing is kept but the few values of [`ELEMENTS`], so that a claimed length costs no memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use dicom_core::{Length, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::{Codec, TransferSyntax, TransferSyntaxIndex};
use dicom_parser::StatefulDecode;
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_parser::dataset::read::ValueReadStrategy;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

/// The elements that are read, wherever they stand.
const ELEMENTS: &[Tag] = &[
    tags::TRANSFER_SYNTAX_UID,
    tags::MEDIA_STORAGE_SOP_CLASS_UID,
    tags::IMAGE_TYPE,
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::MODALITY,
    tags::SERIES_DESCRIPTION,
    tags::SLICE_THICKNESS,
    tags::SPACING_BETWEEN_SLICES,
    tags::SERIES_INSTANCE_UID,
    tags::SERIES_NUMBER,
    tags::ACQUISITION_NUMBER,
    tags::INSTANCE_NUMBER,
    tags::IMAGE_POSITION_PATIENT,
    tags::IMAGE_ORIENTATION_PATIENT,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::PIXEL_SPACING,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::PIXEL_PADDING_VALUE,
    tags::PIXEL_PADDING_RANGE_LIMIT,
    tags::RESCALE_INTERCEPT,
    tags::RESCALE_SLOPE,
    tags::RESCALE_TYPE,
];

/// Those that are no text but two bytes.
const UNSIGNED: &[Tag] = &[
    tags::SAMPLES_PER_PIXEL,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::PIXEL_PADDING_VALUE,
    tags::PIXEL_PADDING_RANGE_LIMIT,
];

/// The longest value that is read; what an element above needs is far shorter.
const MAX_VALUE: u32 = 1024;
/// The deepest nesting of sequences that is followed.
const MAX_NESTING: usize = 64;
/// The most bytes that a deflated file may inflate to: 1 GiB, beyond any file that is deflated as a whole.
const MAX_INFLATED: u64 = 1 << 30;

/// Anything that can be read at any place.
pub(super) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// What an element belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// The whole file.
    File,
    /// Every frame of an enhanced image.
    Shared,
    /// One frame of an enhanced image, from 0.
    Frame(u32),
}

/// How a file is written.
#[derive(Clone, Copy)]
pub(super) struct Encoding {
    pub transfer_syntax: &'static TransferSyntax,
    /// Where the data set begins, behind the file's meta information.
    start: u64,
}

impl std::fmt::Debug for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.transfer_syntax.name(), self.start)
    }
}

/// The bytes that positions count in: the file, or what it inflates to.
pub(super) struct Bytes {
    pub reader: Box<dyn ReadSeek>,
    pub length: u64,
}

/// Where the pixel data lies in [`Bytes`].
#[derive(Clone, Copy, Debug)]
pub(super) struct PixelData {
    pub start: u64,
    /// In bytes; none for encapsulated data, which ends with a delimiter.
    pub length: Option<u64>,
    /// How many bytes there are to the end.
    pub available: u64,
}

/// What is known of a file.
#[derive(Debug)]
pub(super) struct Header {
    pub encoding: Encoding,
    /// None if the file ends before any.
    pub pixels: Option<PixelData>,
    /// Whether HU come by a table in place of slope and intercept.
    pub has_modality_lut: bool,
    values: HashMap<(Scope, Tag), String>,
}

/// Where a data set may begin.
enum Beginning {
    /// With meta information at this place.
    Meta(u64),
    /// At once, in this transfer syntax.
    Bare(&'static str),
}

/// How the file begins, if it begins as DICOM does: with "DICM" behind a preamble or at once, or without either with the first element.
fn beginning(reader: &mut impl Read) -> Result<Option<Beginning>, String> {
    let mut head = Vec::new();
    reader.take(132).read_to_end(&mut head).map_err(|e| e.to_string())?;
    Ok(match &head[..] {
        [.., b'D', b'I', b'C', b'M'] if head.len() == 132 => Some(Beginning::Meta(132)),
        [b'D', b'I', b'C', b'M', ..] => Some(Beginning::Meta(4)),
        [2, 0, 0, 0, b'U', b'L', ..] => Some(Beginning::Meta(0)),
        [8, 0, 0 | 5 | 8 | 0x16 | 0x18, 0, b'A'..=b'Z', b'A'..=b'Z', ..] => Some(Beginning::Bare(uids::EXPLICIT_VR_LITTLE_ENDIAN)),
        [8, 0, 0 | 5 | 8 | 0x16 | 0x18, 0, 1..=128, 0, 0, 0, ..] => Some(Beginning::Bare(uids::IMPLICIT_VR_LITTLE_ENDIAN)),
        _ => None,
    })
}

/// Whether the file begins as DICOM does, whatever its name.
///
/// # Errors
/// If it cannot be read.
pub(super) fn is_dicom(path: &Path) -> Result<bool, String> {
    let mut file = crate::archive::open_plain(path).map_err(|e| e.to_string())?;
    Ok(beginning(&mut file)?.is_some())
}

impl Encoding {
    /// Reads the meta information.
    fn of(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let (start, uid) = match beginning(&mut file)? {
            None => return Err("no DICOM: it does not begin as one".into()),
            Some(Beginning::Bare(uid)) => (0, uid.to_string()),
            Some(Beginning::Meta(at)) => meta(file, at)?,
        };
        let transfer_syntax = TransferSyntaxRegistry
            .get(&uid)
            .ok_or_else(|| format!("unknown transfer syntax {uid}: convert the file to Explicit VR Little Endian"))?;
        Ok(Self { transfer_syntax, start })
    }

    /// The file's bytes; those of a deflated file are inflated into memory, from where its data set begins.
    ///
    /// # Errors
    /// If the file cannot be read, or inflates beyond [`MAX_INFLATED`].
    pub fn open(&self, path: &Path) -> Result<Bytes, String> {
        let mut file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
        match self.transfer_syntax.codec() {
            Codec::Dataset(Some(adapter)) => {
                file.seek(SeekFrom::Start(self.start)).map_err(|e| e.to_string())?;
                let mut inflated = Vec::new();
                let inflating = adapter.adapt_reader(Box::new(file)).take(MAX_INFLATED + 1).read_to_end(&mut inflated);
                inflating.map_err(|e| format!("its deflated data set is damaged: {e}"))?;
                if inflated.len() as u64 > MAX_INFLATED {
                    return Err(format!("its deflated data set is beyond {MAX_INFLATED} bytes"));
                }
                Ok(Bytes { length: inflated.len() as u64, reader: Box::new(Cursor::new(inflated)) })
            }
            Codec::Dataset(None) => Err(format!("files in {} cannot be read", self.transfer_syntax.name())),
            Codec::None | Codec::EncapsulatedPixelData(..) => {
                let length = file.get_ref().metadata().map_err(|e| e.to_string())?.len();
                file.seek(SeekFrom::Start(self.start)).map_err(|e| e.to_string())?;
                Ok(Bytes { reader: Box::new(file), length })
            }
        }
    }
}

/// Where the data set begins behind the meta information at `at`, and its transfer syntax. The group's own length is not relied on.
fn meta(file: File, at: u64) -> Result<(u64, String), String> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
    let syntax = TransferSyntaxRegistry.get(uids::EXPLICIT_VR_LITTLE_ENDIAN).expect("every reader has it");
    let mut tokens = LazyDataSetReader::new_with_ts(reader, syntax).map_err(|e| chain(&e))?;
    let (mut end, mut uid) = (at, None);
    // The first element beyond group 2 may be of another byte order, or deflated: whatever comes of it ends the group.
    while let Some(Ok(token)) = tokens.advance() {
        match token {
            LazyDataToken::ElementHeader(header) if header.tag.group() == 2 => {}
            LazyDataToken::LazyValue { header, decoder } => {
                end = decoder.position() + u64::from(header.len.0);
                if header.tag == tags::TRANSFER_SYNTAX_UID && header.len.0 <= MAX_VALUE {
                    uid = Some(text_of(LazyDataToken::LazyValue { header, decoder })?);
                } else {
                    LazyDataToken::LazyValue { header, decoder }.skip().map_err(|e| chain(&e))?;
                }
            }
            _ => break,
        }
    }
    uid.map(|uid| (end, uid)).ok_or_else(|| "its meta information names no transfer syntax: the file is damaged".into())
}

impl Header {
    /// Reads `path` up to its pixel data.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged before its pixel data.
    pub fn read(path: &Path) -> Result<Self, String> {
        let encoding = Encoding::of(path)?;
        let bytes = encoding.open(path)?;
        let mut header = Self { encoding, pixels: None, has_modality_lut: false, values: HashMap::new() };
        let mut tokens = LazyDataSetReader::new_with_ts(bytes.reader, encoding.transfer_syntax).map_err(|e| chain(&e))?;
        let Some(length) = header.walk(&mut tokens).map_err(|e| format!("damaged before its pixel data: {e}"))? else { return Ok(header) };
        let start = tokens.into_decoder().position();
        let available = bytes.length.saturating_sub(start);
        header.pixels = Some(PixelData { start, length: length.get().map(u64::from), available });
        Ok(header)
    }

    /// Takes the values of [`ELEMENTS`] up to the pixel data, whose length it gives; none if there is no pixel data.
    fn walk(&mut self, tokens: &mut LazyDataSetReader<impl StatefulDecode>) -> Result<Option<Length>, String> {
        let mut inside = Nesting::default();
        while let Some(token) = tokens.advance() {
            match token.map_err(|e| chain(&e))? {
                LazyDataToken::ElementHeader(element) if element.tag == tags::PIXEL_DATA && inside.is_empty() => {
                    return Ok(Some(element.len));
                }
                LazyDataToken::PixelSequenceStart if inside.is_empty() => return Ok(Some(Length::UNDEFINED)),
                LazyDataToken::PixelSequenceStart => inside.enter(tags::PIXEL_DATA)?,
                LazyDataToken::SequenceStart { tag, .. } => {
                    self.has_modality_lut |= tag == tags::MODALITY_LUT_SEQUENCE;
                    inside.enter(tag)?;
                }
                LazyDataToken::ItemStart { .. } => inside.begin_item()?,
                LazyDataToken::ItemEnd => inside.end_item()?,
                LazyDataToken::SequenceEnd => inside.leave()?,
                LazyDataToken::LazyValue { header, decoder } => {
                    let scope = inside.scope().filter(|_| ELEMENTS.contains(&header.tag) && header.len.0 <= MAX_VALUE);
                    let token = LazyDataToken::LazyValue { header, decoder };
                    match scope {
                        Some(scope) => drop(self.values.insert((scope, header.tag), text_of(token)?)),
                        None => token.skip().map_err(|e| chain(&e))?,
                    }
                }
                token => token.skip().map_err(|e| chain(&e))?,
            }
        }
        Ok(None)
    }

    /// The element's text for the whole file; empty counts as missing.
    pub fn text(&self, tag: Tag) -> Option<&str> {
        self.values.get(&(Scope::File, tag)).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The element's text for one frame: its own, or that of all frames, or that of the file.
    pub fn frame_text(&self, frame: u32, tag: Tag) -> Option<&str> {
        let scopes = [Scope::Frame(frame), Scope::Shared, Scope::File];
        scopes.iter().find_map(|&scope| self.values.get(&(scope, tag)).map(String::as_str).filter(|text| !text.is_empty()))
    }

    /// An integer of the whole file.
    ///
    /// # Errors
    /// If it is no integer.
    pub fn integer(&self, tag: Tag, name: &str) -> Result<Option<i64>, String> {
        self.text(tag).map(|text| text.parse().map_err(|_| format!("{name} is '{text}', no integer"))).transpose()
    }

    /// `N` finite numbers that hold for one frame.
    ///
    /// # Errors
    /// If there is another count of them, or one is no finite number.
    pub fn numbers<const N: usize>(&self, frame: u32, tag: Tag, name: &str) -> Result<Option<[f64; N]>, String> {
        let Some(text) = self.frame_text(frame, tag) else { return Ok(None) };
        let parsed = text.split('\\').map(|part| part.trim().parse().ok().filter(|v: &f64| v.is_finite())).collect::<Option<Vec<f64>>>();
        let numbers = parsed.and_then(|numbers| numbers.try_into().ok());
        numbers.map(Some).ok_or_else(|| format!("{name} is '{text}': expected {N} finite numbers"))
    }
}

/// The sequences that a walk is inside of. An end that nothing began is an error; the parser panics when it goes on behind one.
#[derive(Default)]
struct Nesting(Vec<Sequence>);

struct Sequence {
    tag: Tag,
    /// How many of its items have begun.
    items: u32,
    /// Whether the last of them has not ended.
    open: bool,
}

impl Nesting {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn enter(&mut self, tag: Tag) -> Result<(), String> {
        self.0.push(Sequence { tag, items: 0, open: false });
        if self.0.len() > MAX_NESTING { Err("its sequences nest without end".into()) } else { Ok(()) }
    }

    fn begin_item(&mut self) -> Result<(), String> {
        let last = self.0.last_mut().filter(|last| !last.open).ok_or("a stray item")?;
        (last.items, last.open) = (last.items + 1, true);
        Ok(())
    }

    fn end_item(&mut self) -> Result<(), String> {
        self.0.last_mut().filter(|last| last.open).ok_or("a stray end of an item")?.open = false;
        Ok(())
    }

    fn leave(&mut self) -> Result<(), String> {
        self.0.pop().map(drop).ok_or_else(|| "a stray end of a sequence".into())
    }

    /// What an element here belongs to; none if it is of no interest.
    fn scope(&self) -> Option<Scope> {
        match &self.0[..] {
            [] => Some(Scope::File),
            [Sequence { tag, items, .. }, Sequence { items: 1, .. }] => match *tag {
                tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE => (*items == 1).then_some(Scope::Shared),
                tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE => Some(Scope::Frame(items.checked_sub(1)?)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A value as text, its parts joined by backslashes, without padding.
fn text_of(token: LazyDataToken<impl StatefulDecode>) -> Result<String, String> {
    let LazyDataToken::LazyValue { header, decoder } = token else { return Err("a value is missing".into()) };
    let token = LazyDataToken::LazyValue { header, decoder };
    // Words for people may be in any character set; what is of no UTF-8 is of no use to us. An element of VR UN is as in Implicit VR Little Endian.
    let is_raw = header.tag == tags::SERIES_DESCRIPTION || header.vr() == VR::UN;
    let strategy = if is_raw { ValueReadStrategy::Raw } else { ValueReadStrategy::Preserved };
    let value = token.into_value_with_strategy(strategy).map_err(|e| chain(&e))?;
    let text = match &*value.to_bytes() {
        &[low, high] if is_raw && UNSIGNED.contains(&header.tag) => u16::from_le_bytes([low, high]).to_string(),
        bytes if is_raw => String::from_utf8_lossy(bytes).into_owned(),
        _ => value.to_str().into_owned(),
    };
    Ok(text.trim_matches([' ', '\0']).chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// An error and what caused it, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text.replace('\n', " ")
}
