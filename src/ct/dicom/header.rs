//! Reads the header of a DICOM file: the elements that determine HU, geometry and grouping, and the position of the
//! pixel data.
//!
//! The reader walks a file element by element and keeps only the few values of [`ELEMENTS`].

use std::collections::HashMap;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::Endianness;
use dicom_encoding::{Codec, TransferSyntax, TransferSyntaxIndex};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::codestream;
use super::element::{Element, Elements, Event, ReadSeek, Writing, is_known};

use crate::archive::{InputFile, open_plain};
use crate::error::Problem;

/// How a value is encoded.
#[derive(Clone, Copy, PartialEq)]
enum As {
    Text,
    /// 16 or 32 bits, signed if the VR says so.
    Integer,
    Double,
}

/// The elements to read, from the data set itself and from its [`SEQUENCES`].
const ELEMENTS: &[(Tag, As)] = &[
    (tags::TRANSFER_SYNTAX_UID, As::Text),
    (tags::MEDIA_STORAGE_SOP_CLASS_UID, As::Text),
    (tags::IMAGE_TYPE, As::Text),
    (tags::FRAME_TYPE, As::Text),
    (tags::SOP_CLASS_UID, As::Text),
    (tags::SOP_INSTANCE_UID, As::Text),
    (tags::ACQUISITION_DATE, As::Text),
    (tags::ACQUISITION_TIME, As::Text),
    (tags::ACQUISITION_DATE_TIME, As::Text),
    (tags::FRAME_ACQUISITION_DATE_TIME, As::Text),
    (tags::MODALITY, As::Text),
    (tags::SERIES_DESCRIPTION, As::Text),
    (tags::PATIENT_ID, As::Text),
    (tags::KVP, As::Text),
    (tags::SLICE_THICKNESS, As::Text),
    (tags::SPACING_BETWEEN_SLICES, As::Text),
    (tags::TRIGGER_TIME, As::Text),
    (tags::NOMINAL_CARDIAC_TRIGGER_DELAY_TIME, As::Double),
    (tags::NOMINAL_PERCENTAGE_OF_CARDIAC_PHASE, As::Double),
    (tags::CONVOLUTION_KERNEL, As::Text),
    (tags::STUDY_INSTANCE_UID, As::Text),
    (tags::SERIES_INSTANCE_UID, As::Text),
    (tags::SERIES_NUMBER, As::Text),
    (tags::ACQUISITION_NUMBER, As::Text),
    (tags::FRAME_ACQUISITION_NUMBER, As::Integer),
    (tags::INSTANCE_NUMBER, As::Text),
    (tags::STACK_ID, As::Text),
    (tags::TEMPORAL_POSITION_IDENTIFIER, As::Text),
    (tags::TEMPORAL_POSITION_INDEX, As::Integer),
    (tags::FRAME_OF_REFERENCE_UID, As::Text),
    (tags::IMAGE_POSITION_PATIENT, As::Text),
    (tags::IMAGE_ORIENTATION_PATIENT, As::Text),
    (tags::SAMPLES_PER_PIXEL, As::Integer),
    (tags::PHOTOMETRIC_INTERPRETATION, As::Text),
    (tags::NUMBER_OF_FRAMES, As::Text),
    (tags::ROWS, As::Integer),
    (tags::COLUMNS, As::Integer),
    (tags::PIXEL_SPACING, As::Text),
    (tags::BITS_ALLOCATED, As::Integer),
    (tags::BITS_STORED, As::Integer),
    (tags::HIGH_BIT, As::Integer),
    (tags::PIXEL_REPRESENTATION, As::Integer),
    (tags::PIXEL_PADDING_VALUE, As::Integer),
    (tags::PIXEL_PADDING_RANGE_LIMIT, As::Integer),
    (tags::RESCALE_INTERCEPT, As::Text),
    (tags::RESCALE_SLOPE, As::Text),
    (tags::RESCALE_TYPE, As::Text),
];

/// The sequences that hold such elements, or whose mere presence matters.
const SEQUENCES: &[Tag] = &[
    tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::FRAME_CONTENT_SEQUENCE,
    tags::PLANE_POSITION_SEQUENCE,
    tags::PLANE_ORIENTATION_SEQUENCE,
    tags::PIXEL_MEASURES_SEQUENCE,
    tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
    tags::CARDIAC_SYNCHRONIZATION_SEQUENCE,
    tags::CT_IMAGE_FRAME_TYPE_SEQUENCE,
    tags::CT_RECONSTRUCTION_SEQUENCE,
    tags::CTX_RAY_DETAILS_SEQUENCE,
    tags::CT_ACQUISITION_DETAILS_SEQUENCE,
    tags::MODALITY_LUT_SEQUENCE,
];

/// The longest value that is read, in bytes. The elements above need far less.
const MAX_VALUE: u32 = 1024;
/// How many bytes of the first fragment are searched for the picture's own header.
const MAX_PICTURE_HEAD: u64 = 4096;
/// The most bytes that a deflated file may inflate to: 1 GiB, more than any file that is deflated as a whole.
const MAX_INFLATED: u64 = 1 << 30;

/// The part of a file that an element applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// The whole file.
    File,
    /// Every frame of an enhanced image.
    Shared,
    /// One frame of an enhanced image, from 0.
    Frame(u32),
}

/// The encoding of a file.
#[derive(Clone, Copy)]
pub(super) struct Encoding {
    /// The transfer syntax, which says how the pixels are compressed.
    pub transfer_syntax: &'static TransferSyntax,
    pub writing: Writing,
    /// The offset of the data set, after the file's meta information.
    start: u64,
    is_deflated: bool,
}

impl std::fmt::Debug for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.transfer_syntax.name(), self.start)
    }
}

/// The bytes of a file, or what a deflated file inflates to. All positions count in these bytes.
pub(super) struct OpenFile {
    pub reader: Box<dyn ReadSeek>,
    pub length: u64,
}

/// The position of the pixel data in [`OpenFile`].
#[derive(Clone, Copy, Debug)]
pub(super) struct PixelData {
    pub start: u64,
    /// In bytes, or `None` for encapsulated data, which ends at a delimiter.
    pub length: Option<u64>,
    /// How many bytes there are from `start` to the end of the file.
    pub available: u64,
}

/// What was read from a file before its pixel data.
#[derive(Debug)]
pub(super) struct Header {
    pub encoding: Encoding,
    /// `None` if the file ends before any pixel data.
    pub pixels: Option<PixelData>,
    /// Whether a lookup table gives the HU in place of slope and intercept.
    pub has_modality_lut: bool,
    /// Whether the file is a DICOMDIR, which lists the files of a medium.
    pub is_directory: bool,
    /// What is damaged before the pixel data. The elements before the damage were read.
    pub damage: Option<Problem>,
    /// How the stated transfer syntax differs from the actual encoding, which is the one used.
    pub contradiction: Option<String>,
    values: HashMap<(Scope, Tag), String>,
}

/// The length of the pixel data in bytes, or `None` if it ends at a delimiter.
struct Length(Option<u32>);

/// How a file begins.
enum Beginning {
    /// The offset behind "DICM", or 0 without "DICM". As a rule, meta information begins there.
    Meta(u64),
    /// The data set itself, at offset 0.
    Bare,
}

/// Returns how the file begins, if it begins like DICOM: with "DICM" after a preamble or at once, or, without either,
/// with the first element.
fn beginning(reader: &mut impl Read) -> Result<Option<Beginning>, Problem> {
    let mut head = Vec::new();
    reader.take(132).read_to_end(&mut head)?;
    Ok(match &head[..] {
        [.., b'D', b'I', b'C', b'M'] if head.len() == 132 => Some(Beginning::Meta(132)),
        [b'D', b'I', b'C', b'M', ..] => Some(Beginning::Meta(4)),
        [2, 0, 0..=3 | 0x10, 0, a, b, ..] if is_known([*a, *b]) => Some(Beginning::Meta(0)),
        [2, 0, 0..=3 | 0x10, 0, 1..=128, 0, 0, 0, ..] => Some(Beginning::Meta(0)),
        [8, 0, 0 | 1 | 5 | 8 | 0x16 | 0x18, 0, a, b, ..] | [0, 8, 0, 0 | 1 | 5 | 8 | 0x16 | 0x18, a, b, ..] if is_known([*a, *b]) => {
            Some(Beginning::Bare)
        }
        [8, 0, 0 | 1 | 5 | 8 | 0x16 | 0x18, 0, 1..=128, 0, 0, 0, ..] => Some(Beginning::Bare),
        _ => None,
    })
}

/// Opens a regular file. A pipe or a device could block for ever.
fn open(path: &Path) -> Result<InputFile, Problem> {
    Ok(open_plain(path)?)
}

/// Returns whether the file begins like DICOM, whatever its name.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn is_dicom(path: &Path) -> Result<bool, Problem> {
    Ok(beginning(&mut open(path)?)?.is_some())
}

impl Encoding {
    /// Reads the meta information and the first element. Also returns how the two contradict each other, if they do.
    pub fn of(path: &Path) -> Result<(Self, OpenFile, Option<String>), Problem> {
        let mut file = open(path)?;
        let length = file.length()?;
        let (start, uid) = match beginning(&mut file)? {
            None => return Err("no DICOM: it does not begin as one".into()),
            Some(Beginning::Bare) => (0, None),
            Some(Beginning::Meta(at)) => meta(&mut file, at, length)?,
        };
        let syntax = |uid: &str| {
            let unknown = || format!("unknown transfer syntax {uid}: convert the file to Explicit VR Little Endian");
            TransferSyntaxRegistry.get(uid).ok_or_else(unknown)
        };
        // If the file names no transfer syntax, the first element tells the encoding.
        let transfer_syntax = syntax(uid.as_deref().unwrap_or(uids::EXPLICIT_VR_LITTLE_ENDIAN))?;
        let claimed = Writing {
            implicit: transfer_syntax.uid() == uids::IMPLICIT_VR_LITTLE_ENDIAN,
            big_endian: transfer_syntax.endianness() == Endianness::Big,
        };
        let head = head_at(&mut file, start)?.ok_or("it ends where its data set should begin: the file is damaged")?;
        let is_deflated = matches!(transfer_syntax.codec(), Codec::Dataset(_)) && !(head[..2] == [8, 0] && is_known([head[4], head[5]]));
        let mut encoding = Self { transfer_syntax, writing: claimed, start, is_deflated };
        let mut bytes = encoding.open(path)?;
        let head = head_at(&mut bytes.reader, encoding.data_set())?.ok_or("its data set is empty: the file is damaged")?;
        encoding.writing = Writing::of(head, claimed);
        let is_inflated = !is_deflated && matches!(transfer_syntax.codec(), Codec::Dataset(_));
        let contradiction = (uid.is_some() && (encoding.writing != claimed || is_inflated)).then(|| {
            let name = transfer_syntax.name();
            format!("its transfer syntax is {name}, but it is written in {} and is read as such", encoding.writing.name())
        });
        if encoding.writing != claimed && !is_deflated && !transfer_syntax.is_encapsulated_pixel_data() {
            encoding.transfer_syntax = syntax(match encoding.writing {
                Writing { implicit: true, .. } => uids::IMPLICIT_VR_LITTLE_ENDIAN,
                _ => uids::EXPLICIT_VR_LITTLE_ENDIAN,
            })?;
        }
        Ok((encoding, bytes, contradiction))
    }

    /// Returns the offset of the data set in [`OpenFile`].
    pub fn data_set(&self) -> u64 {
        if self.is_deflated { 0 } else { self.start }
    }

    /// Opens the file's bytes. Inflates a deflated file into memory, from the start of its data set.
    ///
    /// # Errors
    /// If the file cannot be read, or inflates beyond [`MAX_INFLATED`].
    pub fn open(&self, path: &Path) -> Result<OpenFile, Problem> {
        let mut file = open(path)?;
        match self.transfer_syntax.codec() {
            Codec::Dataset(Some(adapter)) if self.is_deflated => {
                file.seek(SeekFrom::Start(self.start))?;
                let mut inflated = Vec::new();
                let inflating = adapter.adapt_reader(Box::new(file)).take(MAX_INFLATED + 1).read_to_end(&mut inflated);
                inflating.map_err(|e| Problem::from(e).within("its deflated data set is damaged"))?;
                if inflated.len() as u64 > MAX_INFLATED {
                    return Err(format!("its deflated data set is beyond {MAX_INFLATED} bytes").into());
                }
                Ok(OpenFile { length: inflated.len() as u64, reader: Box::new(Cursor::new(inflated)) })
            }
            Codec::Dataset(None) if self.is_deflated => Err(format!("files in {} cannot be read", self.transfer_syntax.name()).into()),
            _ => {
                let length = file.length()?;
                Ok(OpenFile { reader: Box::new(file), length })
            }
        }
    }
}

/// Reads the eight bytes at `at`, or returns `None` if there are fewer.
fn head_at(reader: &mut (impl Read + Seek), at: u64) -> Result<Option<[u8; 8]>, Problem> {
    reader.seek(SeekFrom::Start(at))?;
    let mut head = Vec::new();
    reader.take(8).read_to_end(&mut head)?;
    Ok(head.try_into().ok())
}

/// Returns the offset of the data set after the meta information at `at`, and the transfer syntax, if the file names
/// one. Does not trust the stated length of the group.
fn meta(file: &mut InputFile, at: u64, length: u64) -> Result<(u64, Option<String>), Problem> {
    let is_meta = |head: Option<[u8; 8]>| head.is_some_and(|head| head[..2] == [2, 0]);
    let head = head_at(file, at)?;
    if !is_meta(head) {
        return Ok((at, None));
    }
    let writing = head.map_or(Writing::EXPLICIT, |head| Writing::of(head, Writing::EXPLICIT));
    let (mut end, mut uid) = (at, None);
    let mut elements = Elements::new(file, at, length, writing, &[])?;
    // The first element after the group may be deflated or in another byte order. Whatever the walk makes of that
    // element, even an error, ends the group.
    let problem = loop {
        match elements.next() {
            Ok(Some(Event::Element(element))) if element.tag.group() == 2 => {
                end = elements.position() + u64::from(element.length);
                if element.tag == tags::TRANSFER_SYNTAX_UID {
                    uid = Some(text(&elements.value(MAX_VALUE.into())?)).filter(|uid| !uid.is_empty());
                }
            }
            Ok(_) => break None,
            Err(problem) => break Some(problem),
        }
    };
    match problem {
        Some(problem) if is_meta(head_at(file, end)?) => Err(problem.within("its meta information is damaged")),
        _ => Ok((end, uid)),
    }
}

impl Header {
    /// Reads `path` up to its pixel data, or up to the first damage.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged at its beginning.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let (encoding, mut bytes, contradiction) = Encoding::of(path)?;
        let mut header = Self {
            encoding,
            pixels: None,
            has_modality_lut: false,
            is_directory: false,
            damage: None,
            contradiction,
            values: HashMap::new(),
        };
        let mut elements = Elements::new(&mut bytes.reader, encoding.data_set(), bytes.length, encoding.writing, SEQUENCES)?;
        let walked = header.walk(&mut elements);
        let start = elements.position();
        match walked {
            Err(problem) => header.damage = Some(problem.within("damaged before its pixel data")),
            Ok(None) => {}
            Ok(Some(Length(length))) => {
                header.pixels = Some(PixelData { start, length: length.map(u64::from), available: bytes.length.saturating_sub(start) });
                if length.is_none() {
                    header.compare(&mut bytes, start)?;
                }
            }
        }
        Ok(header)
    }

    /// Collects the values of [`ELEMENTS`] up to the pixel data. Returns the length of the pixel data, or `None` if
    /// there is no pixel data.
    fn walk(&mut self, elements: &mut Elements) -> Result<Option<Length>, Problem> {
        let mut inside: Vec<(Tag, u32)> = Vec::new();
        while let Some(event) = elements.next()? {
            match event {
                Event::Pixels(length) => return Ok(Some(Length(length))),
                Event::Sequence(tag) => {
                    self.has_modality_lut |= tag == tags::MODALITY_LUT_SEQUENCE && scope(&inside).is_some();
                    inside.push((tag, 0));
                }
                Event::Item => inside.last_mut().ok_or("a stray item")?.1 += 1,
                Event::ItemEnd => {}
                Event::SequenceEnd => drop(inside.pop()),
                Event::Element(element) => self.take(element, scope(&inside), elements)?,
            }
        }
        Ok(None)
    }

    /// Keeps the element's value if it is one of [`ELEMENTS`], and not empty.
    fn take(&mut self, element: Element, scope: Option<Scope>, elements: &mut Elements) -> Result<(), Problem> {
        // Group 0004 belongs to a DICOMDIR, which lists the files of a medium.
        self.is_directory |= element.tag.group() == 4;
        let Some(scope) = scope else { return Ok(()) };
        let Some(&(tag, form)) = ELEMENTS.iter().find(|(tag, _)| *tag == element.tag) else { return Ok(()) };
        if element.length > 0 && element.length <= MAX_VALUE {
            let bytes = elements.value(MAX_VALUE.into())?;
            let value = number(&bytes, form, element).unwrap_or_else(|| text(&bytes));
            if !value.is_empty() {
                self.values.insert((scope, tag), value);
            }
        }
        Ok(())
    }

    /// Reads the compression from the first fragment's own header, and uses it if the transfer syntax says otherwise.
    fn compare(&mut self, bytes: &mut OpenFile, start: u64) -> Result<(), Problem> {
        let length = |head: [u8; 8]| u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        let Some(table) = head_at(&mut bytes.reader, start)? else { return Ok(()) };
        let Some(first) = head_at(&mut bytes.reader, start.saturating_add(8 + length(table)))? else { return Ok(()) };
        let mut head = Vec::new();
        (&mut bytes.reader).take(length(first).min(MAX_PICTURE_HEAD)).read_to_end(&mut head)?;
        let (claimed, Some(found)) = (self.encoding.transfer_syntax, codestream::compression(&head)) else { return Ok(()) };
        if codestream::family(claimed.uid()) == codestream::family(found) {
            return Ok(());
        }
        let found = TransferSyntaxRegistry.get(found).ok_or("unknown compression")?;
        self.encoding.transfer_syntax = found;
        let (claimed, found) = (claimed.name(), found.name());
        self.contradiction = Some(format!("its transfer syntax is {claimed}, but its pixels are in {found} and are read as such"));
        Ok(())
    }

    /// Returns the element's text for the whole file. An empty text counts as missing.
    pub fn text(&self, tag: Tag) -> Option<&str> {
        self.values.get(&(Scope::File, tag)).map(String::as_str)
    }

    /// Returns the element's text for one frame: the frame's own text, else that of all frames, else that of the file.
    pub fn frame_text(&self, frame: u32, tag: Tag) -> Option<&str> {
        let scopes = [Scope::Frame(frame), Scope::Shared, Scope::File];
        scopes.iter().find_map(|&scope| self.values.get(&(scope, tag)).map(String::as_str))
    }

    /// Returns an integer that applies to the whole file.
    ///
    /// # Errors
    /// If the value is not an integer.
    pub fn integer(&self, tag: Tag, name: &str) -> Result<Option<i64>, String> {
        self.text(tag).map(|text| text.parse().map_err(|_| format!("{name} is '{text}', no integer"))).transpose()
    }

    /// Returns `N` finite numbers that apply to one frame.
    ///
    /// # Errors
    /// If there are more or fewer than `N` numbers, or one is not a finite number.
    pub fn numbers<const N: usize>(&self, frame: u32, tag: Tag, name: &str) -> Result<Option<[f64; N]>, String> {
        let Some(text) = self.frame_text(frame, tag) else { return Ok(None) };
        let parsed = text.split('\\').map(|part| part.trim().parse().ok().filter(|v: &f64| v.is_finite())).collect::<Option<Vec<f64>>>();
        let numbers = parsed.and_then(|numbers| numbers.try_into().ok());
        numbers.map(Some).ok_or_else(|| format!("{name} is '{text}': expected {N} finite numbers"))
    }
}

/// Returns the scope of an element in the last item of these nested sequences, or `None` if nothing is read there. Each
/// sequence comes with the number of its items that have begun.
fn scope(inside: &[(Tag, u32)]) -> Option<Scope> {
    match inside {
        [] => Some(Scope::File),
        [(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 1), (_, 1)] => Some(Scope::Shared),
        [(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, items), (_, 1)] => Some(Scope::Frame(items.checked_sub(1)?)),
        _ => None,
    }
}

/// Returns a number as text, if a number of this form can have this many bytes.
fn number(bytes: &[u8], form: As, element: Element) -> Option<String> {
    let is_signed = matches!(element.vr.as_ref(), Some(b"SS" | b"SL"));
    match (form, bytes) {
        (As::Integer, &[a, b]) => {
            let value = element.writing.u16([a, b]);
            Some(if is_signed { value.cast_signed().to_string() } else { value.to_string() })
        }
        (As::Integer, &[a, b, c, d]) => {
            let value = element.writing.u32([a, b, c, d]);
            Some(if is_signed { value.cast_signed().to_string() } else { value.to_string() })
        }
        (As::Double, &[a, b, c, d, e, f, g, h]) => {
            let bytes = [a, b, c, d, e, f, g, h];
            Some(if element.writing.big_endian { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) }.to_string())
        }
        _ => None,
    }
}

/// Returns a value as text, without padding. Free text may be in any character set. Bytes that are not UTF-8 are
/// replaced, because nothing needs such text.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches([' ', '\0']).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns an error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text.replace('\n', " ")
}
