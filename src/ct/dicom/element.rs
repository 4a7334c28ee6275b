//! Walks the elements of a DICOM data set in order, in any encoding: implicit or explicit VR, little or big endian.
//!
//! The walk checks a stated length against the bytes that are left before it trusts the length, and allocates no memory
//! for it. It skips a sequence in one step if nothing is read from the sequence and its length is stated.

use std::io::{BufReader, Read, Seek, SeekFrom};

use crate::error::Problem;
use dicom_core::Tag;
use dicom_dictionary_std::tags;

/// The deepest nesting of sequences and items that the walk follows.
const MAX_NESTING: usize = 128;
/// The 32-bit length that means "undefined": the value ends at a delimiter.
const UNDEFINED: u32 = u32::MAX;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// The VRs with a 16-bit length.
const SHORT: &[&[u8; 2]] = &[
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI",
    b"UL", b"US",
];
/// The VRs with a 32-bit length, which follows two reserved bytes.
const LONG: &[&[u8; 2]] = &[b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// A reader that can seek.
pub(super) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// The encoding of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writing {
    /// Whether elements are written without VRs.
    pub implicit: bool,
    pub big_endian: bool,
}

impl Writing {
    pub const IMPLICIT: Self = Self { implicit: true, big_endian: false };
    pub const EXPLICIT: Self = Self { implicit: false, big_endian: false };

    /// Returns the encoding of a data set whose first element begins with `head`, if `head` is an element. `claimed`
    /// decides where the bytes are ambiguous.
    pub fn of(head: [u8; 8], claimed: Self) -> Self {
        // The first group number, usually 0008, fits into one byte. Which of its two bytes is set tells the byte order.
        // A private group tells nothing.
        let big_endian = match head[..2] {
            [group, 0] if group > 0 => false,
            [0, 1..=0x20] => true,
            _ => claimed.big_endian,
        };
        let vr = [head[4], head[5]];
        let implicit = if is_known(vr) { false } else { claimed.implicit || !is_word(vr) };
        Self { implicit, big_endian }
    }

    /// Returns the standard's name of the encoding.
    pub fn name(self) -> &'static str {
        match self {
            Self { implicit: true, big_endian: false } => "Implicit VR Little Endian",
            Self { implicit: false, big_endian: false } => "Explicit VR Little Endian",
            Self { implicit: true, big_endian: true } => "Implicit VR Big Endian",
            Self { implicit: false, big_endian: true } => "Explicit VR Big Endian",
        }
    }

    pub fn u16(self, b: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    pub fn u32(self, b: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }

    fn tag(self, head: [u8; 8]) -> Tag {
        Tag(self.u16([head[0], head[1]]), self.u16([head[2], head[3]]))
    }

    /// Returns the length of an element without a VR.
    fn length(self, head: [u8; 8]) -> u32 {
        self.u32([head[4], head[5], head[6], head[7]])
    }
}

/// Returns whether the DICOM standard defines this VR.
pub(super) fn is_known(vr: [u8; 2]) -> bool {
    SHORT.contains(&&vr) || LONG.contains(&&vr)
}

/// Returns whether the two bytes could be a VR: two capital letters.
fn is_word(vr: [u8; 2]) -> bool {
    vr.iter().all(u8::is_ascii_uppercase)
}

/// An element with a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub tag: Tag,
    /// `None` if the element is written without a VR.
    pub vr: Option<[u8; 2]>,
    /// The length of the value in bytes. The file holds all of them.
    pub length: u32,
    pub writing: Writing,
}

/// One step of a walk over the elements.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// An element, whose value [`Elements::value`] reads.
    Element(Element),
    /// The pixel data of the top-level data set, with its length in bytes, or `None` if it ends at a delimiter. The
    /// walk reads nothing beyond it.
    Pixels(Option<u32>),
    /// A sequence begins.
    Sequence(Tag),
    Item,
    ItemEnd,
    SequenceEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    /// Items that hold raw bytes.
    Fragments,
}

/// A sequence, an item or fragments that have begun but not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    kind: Kind,
    /// The offset where it ends at the latest.
    bound: u64,
    /// Whether it ends at `bound` rather than at a delimiter.
    is_measured: bool,
    writing: Writing,
}

/// A walk over the elements of a data set.
pub(super) struct Elements<'a> {
    reader: BufReader<&'a mut dyn ReadSeek>,
    at: u64,
    /// How many bytes of the last element's value are still unread.
    rest: u64,
    open: Vec<Open>,
    root: Open,
    /// Sequences that the walk enters even if their stated length allows it to skip them.
    followed: &'a [Tag],
}

impl<'a> Elements<'a> {
    /// Starts a walk over the data set from `start` up to `end`, the end of the file.
    ///
    /// # Errors
    /// If `start` cannot be reached.
    pub fn new(reader: &'a mut dyn ReadSeek, start: u64, end: u64, writing: Writing, followed: &'a [Tag]) -> Result<Self, Problem> {
        let mut reader = BufReader::new(reader);
        reader.seek(SeekFrom::Start(start))?;
        let root = Open { kind: Kind::Item, bound: end.max(start), is_measured: true, writing };
        Ok(Self { reader, at: start, rest: 0, open: Vec::new(), root, followed })
    }

    /// Returns the offset of the next byte to read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Returns the next event, or `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read, ends inside an element, or holds fewer bytes than a length states.
    pub fn next(&mut self) -> Result<Option<Event>, Problem> {
        let rest = std::mem::take(&mut self.rest);
        self.skip(rest)?;
        loop {
            let top = self.top();
            if self.at == top.bound && top.is_measured && self.open.pop().is_none() {
                return Ok(None);
            } else if self.at == top.bound && top.is_measured {
                if let Some(event) = ended(top.kind) {
                    return Ok(Some(event));
                }
                continue;
            }
            let event = match top.kind {
                Kind::Sequence | Kind::Fragments => self.item(top)?,
                Kind::Item => Some(self.element(top)?),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Reads the value of the last element, at most its first `most` bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn value(&mut self, most: u64) -> Result<Vec<u8>, Problem> {
        let length = self.rest.min(most);
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at += length;
        self.rest -= length;
        Ok(bytes)
    }

    fn top(&self) -> Open {
        *self.open.last().unwrap_or(&self.root)
    }

    /// Skips bytes that the file is known to hold.
    fn skip(&mut self, bytes: u64) -> Result<(), Problem> {
        let step = i64::try_from(bytes).map_err(|e| e.to_string())?;
        self.reader.seek_relative(step)?;
        self.at += bytes;
        Ok(())
    }

    /// Reads the eight bytes at `ahead` bytes from here without moving. Returns `None` if they reach beyond `bound`.
    fn peek(&mut self, ahead: u64, bound: u64) -> Result<Option<[u8; 8]>, Problem> {
        if self.at.checked_add(ahead + 8).is_none_or(|end| end > bound) {
            return Ok(None);
        }
        let mut head = [0; 8];
        let ahead = i64::try_from(ahead).map_err(|e| e.to_string())?;
        self.reader.seek_relative(ahead)?;
        self.reader.read_exact(&mut head)?;
        self.reader.seek_relative(-ahead - 8)?;
        Ok(Some(head))
    }

    /// Reads the eight bytes that begin an element or item.
    fn head(&mut self, bound: u64) -> Result<[u8; 8], Problem> {
        let head = self.peek(0, bound)?.ok_or_else(|| format!("it ends inside an element at byte {}", self.at))?;
        self.skip(8)?;
        Ok(head)
    }

    /// Opens a sequence, an item or fragments of this length. `None` means up to a delimiter.
    fn begin(&mut self, kind: Kind, length: Option<u32>, writing: Writing) -> Result<(), Problem> {
        if self.open.len() >= MAX_NESTING {
            return Err("its sequences nest without end".into());
        }
        let bound = self.top().bound;
        let bound = match length {
            Some(length) => {
                self.inside(length, bound).ok_or_else(|| format!("a sequence or item at byte {} reaches beyond its end", self.at))?
            }
            None => bound,
        };
        self.open.push(Open { kind, bound, is_measured: length.is_some(), writing });
        Ok(())
    }

    /// Returns the offset where `length` bytes from here end, or `None` if that is beyond `bound`.
    fn inside(&self, length: u32, bound: u64) -> Option<u64> {
        self.at.checked_add(u64::from(length)).filter(|&end| end <= bound)
    }

    /// Reads the next item or fragment, or the end of the sequence or fragments. Returns `None` for a skipped fragment
    /// and for the end of fragments.
    fn item(&mut self, top: Open) -> Result<Option<Event>, Problem> {
        let head = self.head(top.bound)?;
        let length = top.writing.length(head);
        match (top.writing.tag(head), top.kind) {
            (SEQUENCE_END, kind) => {
                self.open.pop();
                Ok(ended(kind))
            }
            (ITEM, Kind::Fragments) => {
                let end = self.inside(length, top.bound).ok_or_else(|| format!("a fragment at byte {} reaches beyond its end", self.at))?;
                self.skip(end - self.at)?;
                Ok(None)
            }
            (ITEM, _) => {
                self.begin(Kind::Item, Some(length).filter(|&length| length != UNDEFINED), top.writing)?;
                self.look()?;
                Ok(Some(Event::Item))
            }
            (tag, _) => Err(format!("{} is where an item should begin, at byte {}", named(tag), self.at - 8).into()),
        }
    }

    /// Detects by an item's first element whether the item has VRs. Some writers put items with VRs into sequences
    /// without VRs, or the other way round.
    fn look(&mut self) -> Result<(), Problem> {
        let top = self.top();
        let writing = top.writing;
        let Some(head) = self.peek(0, top.bound)? else { return Ok(()) };
        let vr = [head[4], head[5]];
        let fits = |walk: &mut Self| walk.goes_on(writing.tag(head), 8, writing.length(head), top);
        let is_implicit = if writing.implicit { !is_known(vr) || fits(self)? } else { !is_word(vr) && fits(self)? };
        if writing.tag(head).group() != 0xFFFE
            && let Some(top) = self.open.last_mut()
        {
            top.writing.implicit = is_implicit;
        }
        Ok(())
    }

    /// Reads the next element of a data set or item, or the item's end.
    fn element(&mut self, top: Open) -> Result<Event, Problem> {
        let Open { bound, writing, .. } = top;
        let begin = self.at;
        let head = self.head(bound)?;
        let tag = writing.tag(head);
        if tag.group() == 0xFFFE {
            return match tag {
                ITEM_END if !self.open.is_empty() => {
                    self.open.pop();
                    Ok(Event::ItemEnd)
                }
                _ => Err(format!("a stray {} is at byte {begin}", named(tag)).into()),
            };
        }
        let vr = Some([head[4], head[5]]).filter(|_| !writing.implicit);
        let (vr, length) = match vr {
            None => (None, writing.length(head)),
            Some(vr) if LONG.contains(&&vr) => {
                let mut length = [0; 4];
                self.inside(4, bound).ok_or_else(|| format!("it ends inside {} at byte {begin}", named(tag)))?;
                self.reader.read_exact(&mut length)?;
                self.at += 4;
                (Some(vr), writing.u32(length))
            }
            Some(vr) if SHORT.contains(&&vr) => (Some(vr), writing.u16([head[6], head[7]]).into()),
            Some(vr) => self.unknown(tag, vr, head, top)?,
        };
        let length = Some(length).filter(|&length| length != UNDEFINED);
        if tag == tags::PIXEL_DATA && self.open.is_empty() {
            return Ok(Event::Pixels(length));
        }
        // A writer that does not know the VR (UN) writes the value in Implicit VR Little Endian, whatever the file's
        // encoding.
        let inner = if vr == Some(*b"UN") { Writing::IMPLICIT } else { writing };
        let may_be_sequence = vr.is_none_or(|vr| vr == *b"SQ" || vr == *b"UN");
        let Some(length) = length else {
            let is_sequence = may_be_sequence && tag != tags::PIXEL_DATA;
            self.begin(if is_sequence { Kind::Sequence } else { Kind::Fragments }, None, inner)?;
            return if is_sequence { Ok(Event::Sequence(tag)) } else { Ok(Event::Element(Element { tag, vr, length: 0, writing })) };
        };
        let left = bound.saturating_sub(self.at);
        self.inside(length, bound).ok_or_else(|| format!("{} claims {length} bytes where {left} are left", named(tag)))?;
        if may_be_sequence && self.followed.contains(&tag) {
            self.begin(Kind::Sequence, Some(length), inner)?;
            return Ok(Event::Sequence(tag));
        }
        self.rest = length.into();
        Ok(Event::Element(Element { tag, vr, length, writing: inner }))
    }

    /// Returns the VR and length of an element whose VR is unknown. Such an element has a 16-bit length, or a 32-bit
    /// length after two zero bytes, or no VR at all. The right reading is the one after which another element begins.
    fn unknown(&mut self, tag: Tag, vr: [u8; 2], head: [u8; 8], top: Open) -> Result<(Option<[u8; 2]>, u32), Problem> {
        let writing = top.writing;
        let short = (Some(*b"UN"), 0, u32::from(writing.u16([head[6], head[7]])));
        let implicit = (None, 0, writing.length(head));
        let long = match self.peek(0, top.bound)? {
            Some([a, b, c, d, ..]) if head[6..] == [0, 0] => Some((Some(*b"UN"), 4, writing.u32([a, b, c, d]))),
            _ => None,
        };
        let readings = if is_word(vr) { [Some(short), long, Some(implicit)] } else { [Some(implicit), Some(short), long] };
        for (vr, ahead, length) in readings.into_iter().flatten() {
            if self.goes_on(tag, ahead, length, top)? {
                self.skip(ahead)?;
                return Ok((vr, length));
            }
        }
        Err(format!("{} has the unknown VR {:?}, and no length that fits", named(tag), String::from_utf8_lossy(&vr)).into())
    }

    /// Returns whether another element, a delimiter or the end follows a value of `length` bytes that begins `ahead`
    /// bytes from here.
    fn goes_on(&mut self, tag: Tag, ahead: u64, length: u32, top: Open) -> Result<bool, Problem> {
        let is_measured = length != UNDEFINED;
        let next = ahead + if is_measured { u64::from(length) } else { 0 };
        if self.at.checked_add(next) == Some(top.bound) {
            return Ok(top.is_measured && is_measured);
        }
        let Some(head) = self.peek(next, top.bound)? else { return Ok(false) };
        let found = top.writing.tag(head);
        Ok(match is_measured {
            true if found.group() == 0xFFFE => found == ITEM_END && !self.open.is_empty(),
            true => found > tag && (is_word([head[4], head[5]]) || top.writing.length(head) < 1 << 24),
            false => found == ITEM || found == SEQUENCE_END,
        })
    }
}

/// Returns the event for the end of a sequence or item. Fragments have no event.
fn ended(kind: Kind) -> Option<Event> {
    match kind {
        Kind::Sequence => Some(Event::SequenceEnd),
        Kind::Item => Some(Event::ItemEnd),
        Kind::Fragments => None,
    }
}

fn named(tag: Tag) -> String {
    format!("element ({:04X},{:04X})", tag.group(), tag.element())
}
