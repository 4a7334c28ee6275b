//! `.npy`, NumPy's array format. [`npyz`] parses headers and values. This module first checks the file against its
//! header, because either may be damaged.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use half::f16;
use npyz::{DType, Deserialize, NpyHeader, Order, TypeChar, TypeRead};

use super::source::{self, SliceReader, StoredScan};
use crate::archive::{InputFile, open_plain};
use crate::count::product;
use crate::error::{Error, Problem, Result};

/// The longest header that is accepted, in bytes; NumPy's own `max_header_size` is the same.
const MAX_HEADER: u64 = 10_000;
/// The deepest nesting that a header may have. An array of numbers needs two levels.
const MAX_NESTING: usize = 8;

/// An open `.npy` file of [H, W] or [S, H, W] numbers.
///
/// In C order, each slice is read on request. In Fortran order, a slice's values are scattered over the whole file, so
/// the first read keeps the file's bytes in memory.
#[derive(Debug)]
pub struct Npy {
    file: InputFile,
    dtype: DType,
    item: usize,
    order: Order,
    /// [S, H, W]
    shape: [usize; 3],
    /// The offset of the values, in bytes.
    start: u64,
    /// The whole array as stored, after the first read. Only used in Fortran order.
    whole: Option<Vec<u8>>,
}

impl Npy {
    /// Opens the file and checks its header, without allocating memory for values.
    ///
    /// # Errors
    /// If the file cannot be read or is not a `.npy` file, or if its header does not describe HU or disagrees with the
    /// file's length.
    pub fn open(path: &Path) -> Result<Self> {
        Self::checked(path).map_err(|problem| Error::input(path.display(), problem))
    }

    fn checked(path: &Path) -> Result<Self, Problem> {
        let mut file = open_plain(path)?;
        let length = file.length()?;
        let text = read_header(&mut file, length)?;
        let header = NpyHeader::from_reader(&text[..]).map_err(|e| {
            // Keep the first line only, because a syntax error prints a picture of the text below it.
            format!("broken .npy header: {}", e.to_string().lines().next().unwrap_or_default().trim_end())
        })?;
        let item = item_size(&header.dtype())?;
        let shape = slices(header.shape())?;
        let start = text.len() as u64;
        let (expected, found) = (shape.iter().map(|&n| n as u128).product::<u128>() * item as u128, u128::from(length - start));
        if found != expected {
            let shape = header.shape();
            return Err(format!(
                "its header promises {shape:?} values of {item} bytes, {expected} bytes in all, but {found} follow: the file is damaged"
            )
            .into());
        }
        Ok(Self { file, dtype: header.dtype(), item, order: header.order(), shape, start, whole: None })
    }

    /// Converts the array to a scan in HU without an affine.
    pub fn stored(self) -> StoredScan {
        let about = vec![("format", "NumPy".into())];
        StoredScan { about, ..StoredScan::of_slices(self.shape, Box::new(self)) }
    }

    fn read_bytes(&mut self, at: u64, len: usize) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| format!("no memory for {len} bytes"))?;
        bytes.resize(len, 0);
        self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut bytes))?;
        Ok(bytes)
    }

    /// Returns slice `index` of a Fortran-ordered array as row-major bytes. Element (s, h, w) is stored at s + S (h + H
    /// w).
    fn gather(&mut self, index: usize) -> Result<Vec<u8>, Problem> {
        let ([slices, height, width], item) = (self.shape, self.item);
        let whole = match self.whole.take() {
            Some(whole) => whole,
            None => self.read_whole()?,
        };
        let stored = |h: usize, w: usize| (index + slices * (h + height * w)) * item;
        let bytes = (0..height).flat_map(|h| (0..width).map(move |w| stored(h, w))).flat_map(|at| &whole[at..at + item]).copied().collect();
        self.whole = Some(whole);
        Ok(bytes)
    }

    /// Reads the whole array.
    fn read_whole(&mut self) -> Result<Vec<u8>, Problem> {
        let [slices, height, width] = self.shape;
        let bytes = product(&[slices, height, width, self.item]);
        let whole = usize::try_from(bytes).map_err(|_| {
            format!("its Fortran order needs all of its {bytes} bytes in memory at once; save it in C order: numpy.ascontiguousarray")
        })?;
        self.read_bytes(self.start, whole)
    }
}

impl SliceReader for Npy {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let [_, height, width] = self.shape;
        let len = height * width * self.item;
        let bytes = match self.order {
            Order::C => self.read_bytes(self.start + index as u64 * len as u64, len)?,
            Order::Fortran => self.gather(index)?,
        };
        decode(&self.dtype, &bytes)
    }
}

/// Reads everything before the values: magic, version, length and the header's text. The text's numbers and nesting are
/// checked here, before it is parsed.
fn read_header(file: &mut InputFile, length: u64) -> Result<Vec<u8>, Problem> {
    let mut head = Vec::new();
    file.take(12).read_to_end(&mut head)?;
    if !head.starts_with(b"\x93NUMPY") {
        return Err("not a .npy file: it does not begin as one".into());
    }
    let (prefix, text) = match *head {
        [_, _, _, _, _, _, 1, _, a, b, ..] => (10, u64::from(u16::from_le_bytes([a, b]))),
        [_, _, _, _, _, _, 2 | 3, _, a, b, c, d] => (12, u64::from(u32::from_le_bytes([a, b, c, d]))),
        [_, _, _, _, _, _, version, ..] if head.len() == 12 => {
            return Err(format!("unknown .npy version {version}: expected 1, 2 or 3").into());
        }
        _ => return Err("broken .npy header: the file ends inside it".into()),
    };
    if text > MAX_HEADER {
        return Err(format!("broken .npy header: it claims {text} bytes, an array of numbers needs less than {MAX_HEADER}").into());
    }
    if prefix + text > length {
        return Err("broken .npy header: the file ends inside it".into());
    }
    head.resize((prefix + text) as usize, 0);
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut head))?;
    check_text(&String::from_utf8_lossy(&head[prefix as usize..]))?;
    Ok(head)
}

/// Refuses header text that the parser cannot handle: numbers whose product exceeds 64 bits, and nesting deeper than
/// [`MAX_NESTING`].
fn check_text(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err("broken .npy header: it nests without end".into());
        }
    }
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut product = 1_u64;
    for word in words {
        let number: u64 = word.parse().map_err(|_| format!("broken .npy header: {word} is no size"))?;
        product = product
            .checked_mul(number.max(1))
            .ok_or_else(|| format!("broken .npy header: it claims more values than a file can hold: {}", text.trim()))?;
    }
    Ok(())
}

/// Converts an array's shape to [S, H, W].
fn slices(shape: &[u64]) -> Result<[usize; 3], String> {
    let [s, h, w] = match *shape {
        [h, w] => [1, h, w],
        [s, h, w] => [s, h, w],
        _ => return Err(format!("expected [H, W] or [S, H, W], found {} axes: {shape:?}", shape.len())),
    };
    if s * h * w == 0 {
        return Err(format!("the array is empty: {shape:?}"));
    }
    source::shape([s, h, w]).map_err(|problem| format!("{problem}; expected [H, W] or [S, H, W]"))
}

/// Returns the size of one value in bytes.
fn item_size(dtype: &DType) -> Result<usize, String> {
    let refused = || format!("dtype {} is no number of HU: expected integers or floats of at most 64 bits", dtype.descr());
    let DType::Plain(kind) = dtype else { return Err(refused()) };
    match (kind.type_char(), kind.size_field()) {
        (TypeChar::Int | TypeChar::Uint, size @ (1 | 2 | 4 | 8)) | (TypeChar::Float, size @ (2 | 4 | 8)) => Ok(size as usize),
        (TypeChar::Bool, _) => Err("dtype bool is a mask, and no HU: expected integers or floats".into()),
        _ => Err(refused()),
    }
}

/// Decodes stored values as f32. Values of i32, i64, u32, u64 and f64 are rounded to nearest.
fn decode(dtype: &DType, bytes: &[u8]) -> Result<Vec<f32>, Problem> {
    let DType::Plain(kind) = dtype else { unreachable!("checked when the file was opened") };
    match (kind.type_char(), kind.size_field()) {
        (TypeChar::Int, 1) => values::<i8>(dtype, bytes, f32::from),
        (TypeChar::Int, 2) => values::<i16>(dtype, bytes, f32::from),
        (TypeChar::Int, 4) => values::<i32>(dtype, bytes, |v| v as f32),
        (TypeChar::Int, _) => values::<i64>(dtype, bytes, |v| v as f32),
        (TypeChar::Uint, 1) => values::<u8>(dtype, bytes, f32::from),
        (TypeChar::Uint, 2) => values::<u16>(dtype, bytes, f32::from),
        (TypeChar::Uint, 4) => values::<u32>(dtype, bytes, |v| v as f32),
        (TypeChar::Uint, _) => values::<u64>(dtype, bytes, |v| v as f32),
        (_, 2) => values::<f16>(dtype, bytes, f16::to_f32),
        (_, 4) => values::<f32>(dtype, bytes, |v| v),
        _ => values::<f64>(dtype, bytes, |v| v as f32),
    }
}

fn values<T: Deserialize>(dtype: &DType, mut bytes: &[u8], to_f32: impl Fn(T) -> f32) -> Result<Vec<f32>, Problem> {
    let reader = T::reader(dtype).map_err(|e| e.to_string())?;
    let mut hu = Vec::with_capacity(bytes.len() / size_of::<T>());
    while !bytes.is_empty() {
        hu.push(to_f32(reader.read_one(&mut bytes)?));
    }
    Ok(hu)
}
