//! The lines of a text header, which precede voxels in the same file or in another one.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::source;
use crate::archive::{InputFile, open_plain, shown};
use crate::error::Problem;

/// The longest header that is accepted, in bytes. Headers of scans have a few hundred, with metadata some thousands.
const MAX_HEADER: u64 = 1 << 20;

/// A file that begins with lines of text.
#[derive(Debug)]
pub(super) struct HeaderLines {
    file: BufReader<InputFile>,
    /// The offset of the next line, in bytes.
    at: u64,
}

impl HeaderLines {
    /// # Errors
    /// If the file does not exist or cannot be read.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        Ok(Self { file: BufReader::new(open_plain(path)?), at: 0 })
    }

    /// Returns the next line without the spaces around it, or `None` at the end of the file. Bytes that are not UTF-8
    /// are replaced.
    ///
    /// # Errors
    /// If the file cannot be read, or the header is longer than any header of a scan.
    pub fn next(&mut self) -> Result<Option<String>, Problem> {
        let mut line = Vec::new();
        let read = (&mut self.file).take(MAX_HEADER).read_until(b'\n', &mut line)?;
        self.at += read as u64;
        if self.at > MAX_HEADER || read as u64 == MAX_HEADER {
            return Err(format!("broken header: it does not end within {MAX_HEADER} bytes").into());
        }
        Ok((read > 0).then(|| String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// Returns the file, and the offset of what follows the lines that were read.
    pub fn rest(self) -> (InputFile, u64) {
        (self.file.into_inner(), self.at)
    }
}

/// Returns the path of the file of the voxels, which the header at `path` calls `name`. `inside` says how a header states
/// that the voxels follow it.
///
/// # Errors
/// If that is the header's own file: its first bytes are text, and would be read as voxels.
pub(super) fn data_file(path: &Path, name: &str, inside: &str) -> Result<PathBuf, String> {
    let data = path.parent().unwrap_or(Path::new("")).join(name);
    let is_itself = data == path || data.canonicalize().is_ok_and(|data| path.canonicalize().is_ok_and(|path| data == path));
    if is_itself {
        return Err(format!("broken header: it names itself as the file of its voxels; expected another file, or {inside}"));
    }
    Ok(data)
}

/// Returns the open file of the voxels, and the offset of its data: the file `data` from its beginning, or else the
/// rest of the header's own file.
///
/// # Errors
/// If `data` cannot be opened.
pub(super) fn data(data: Option<PathBuf>, rest: (InputFile, u64)) -> Result<(InputFile, u64), Problem> {
    let Some(data) = data else { return Ok(rest) };
    let file = open_plain(&data).map_err(|e| Problem::from(e).within(format_args!("its data file {}", shown(&data).display())))?;
    Ok((file, 0))
}

/// Returns the offset of the voxels, which are the last `voxel_bytes` of `file`.
///
/// # Errors
/// If the file's length is unknown, or the voxels would begin before the offset `start`.
pub(super) fn counted_from_end(file: &InputFile, start: u64, voxel_bytes: u64) -> Result<u64, Problem> {
    let length = file.length()?;
    let begin = length.checked_sub(voxel_bytes).filter(|begin| *begin >= start);
    Ok(begin.ok_or_else(|| {
        format!("its header promises {voxel_bytes} bytes of voxels at the end of its file, which has {length}: the file is damaged")
    })?)
}

/// Returns the offset of what follows `lines` lines of `file` after the offset `start`.
///
/// # Errors
/// If the file cannot be read or has fewer lines.
pub(super) fn after_lines(file: &mut InputFile, start: u64, lines: u64) -> Result<u64, Problem> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let mut at = start;
    for line in 0..lines {
        let passed = reader.skip_until(b'\n')?;
        if passed == 0 {
            return Err(format!("its header says that {lines} lines precede the voxels, but only {line} are there").into());
        }
        at += passed as u64;
    }
    Ok(at)
}

/// Returns the numbers in `text`, which must be `N` of them, separated by `separator` or by spaces.
pub(super) fn numbers<const N: usize>(text: &str, separator: char) -> Option<[f64; N]> {
    let words = text.split(|c: char| c == separator || c.is_whitespace()).filter(|word| !word.is_empty());
    let numbers: Vec<f64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Returns [S, H, W] from the sizes of the axes, the fastest first: a slice has two axes, a volume three.
///
/// # Errors
/// If there is another number of axes, or a side is 0 or too long.
pub(super) fn shape(sizes: &[u64]) -> Result<[usize; 3], String> {
    match *sizes {
        [width, height] => source::shape([1, height, width]),
        [width, height, slices] => source::shape([slices, height, width]),
        _ => Err(format!(
            "expected three axes (columns, rows, slices) of one number a voxel, found {}: {sizes:?}; split it into volumes first",
            sizes.len()
        )),
    }
}
