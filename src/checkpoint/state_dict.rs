//! Reads the tensors of a PyTorch file from anything that can seek. `pytorch-reader` reads tensors only from files of the
//! system, and a browser has none.
//!
//! It reads what `torch.save` has written by default since PyTorch 1.6: a zip archive with a pickle of protocol 2, whose
//! dictionaries and lists hold tensors. Opening a file reads the pickle; a tensor is read when it is asked for. A tensor of
//! a kind that is not known here is left out, and so is missed when the model is loaded.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pytorch_reader::PickleValue;
use zip::{ZipArchive, ZipReadOptions};

use super::claims::{check_tensors, check_zip, damaged};
use super::container::Container;
use super::kind::Kind;
use super::names::printable;
use super::pickle::{Id, Pickle, Value};
use crate::archive::{Dtype, TensorHeader, open_plain};
use crate::error::Problem;

/// How deep dictionaries and lists may be in one another.
const MOST_DEPTH: usize = 32;

/// The most values that are looked at. A value may be in several places.
const MOST_PLACES: usize = 1 << 21;

/// The most tensors, and the longest name of one in bytes.
const MOST_TENSORS: usize = 1 << 16;
const LONGEST_NAME: usize = 1 << 10;

/// What a file is read from.
trait Input: Read + Seek + Send {}
impl<T: Read + Seek + Send> Input for T {}

/// An open PyTorch file.
pub(super) struct StateDict {
    archive: Mutex<ZipArchive<BufReader<Box<dyn Input>>>>,
    /// What the names of its entries begin with.
    root: String,
    tensors: BTreeMap<String, TensorHeader>,
    views: BTreeMap<String, View>,
    /// The texts that the root dictionary holds.
    texts: BTreeMap<String, String>,
}

/// Where the elements of a tensor are.
struct View {
    /// The name of the storage's entry, below `data/`.
    storage: String,
    /// The first element, and how many follow it in the storage up to the last.
    start: u64,
    extent: u64,
    /// The distance of neighbours in each dimension, in elements.
    strides: Vec<usize>,
}

impl StateDict {
    /// Opens the file at `path`, which is of this `kind`.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, Problem> {
        Self::from_reader(open_plain(path)?, kind)
    }

    /// Opens the PyTorch file that `reader` holds, which is of this `kind`.
    pub fn from_reader(mut reader: impl Read + Seek + Send + 'static, kind: Kind) -> Result<Self, Problem> {
        if kind == Kind::Pickle {
            return Err("is a PyTorch file of a version before 1.6, which only the command and programs with files read; write it as \
                safetensors (meddino convert FILE -o model.safetensors)"
                .into());
        }
        let length = reader.seek(SeekFrom::End(0))?;
        let mut archive = check_zip(BufReader::new(Box::new(reader) as Box<dyn Input>))?;
        let root = root(&archive)?;
        let pickle = entry(&mut archive, &format!("{root}data.pkl"), 0, u64::MAX)?;
        let contents = Pickle::parse(&pickle).and_then(|pickle| Contents::of(&pickle)).map_err(|problem| {
            format!(
                "{problem}; save its weights alone (Python: torch.save(torch.load(FILE)[\"state_dict\"], \"weights.pth\")), or write it as \
                 safetensors (meddino convert FILE -o model.safetensors)"
            )
        })?;
        check_tensors(contents.tensors.values().map(claimed).fold(0, u64::saturating_add), length)?;
        let Contents { tensors, views, texts, .. } = contents;
        Ok(Self { archive: Mutex::new(archive), root, tensors, views, texts })
    }

    pub fn tensors(&self) -> &BTreeMap<String, TensorHeader> {
        &self.tensors
    }

    #[expect(clippy::unused_self, reason = "as PthFile's")]
    pub fn container(&self) -> Container {
        Container::Zip
    }

    /// Returns the value under a key of the root dictionary, if it is a text. Others are not kept.
    #[expect(clippy::unnecessary_wraps, reason = "as PthFile's")]
    pub fn top_level(&self, key: &str) -> Result<Option<PickleValue>, Problem> {
        Ok(self.texts.get(key).cloned().map(PickleValue::String))
    }

    /// Refuses to hash the file, because the archive has its reader. A page hashes the files that it hands over.
    #[expect(clippy::unused_self, reason = "as PthFile's")]
    pub fn sha256(&self) -> io::Result<String> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a PyTorch file that is no file of the system is not hashed"))
    }

    /// Reads the bytes of tensor `name`, contiguous and row-major whatever its strides in the file are.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Problem> {
        let (header, view) = self.tensors.get(name).zip(self.views.get(name)).ok_or("is not in the file")?;
        let size = header.dtype.size().ok_or_else(|| format!("holds {}", header.dtype.name()))?;
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let file = format!("{}data/{}", self.root, view.storage);
        let (start, length) = (view.start.saturating_mul(size as u64), view.extent * size as u64);
        let bytes = entry(&mut archive, &file, start, length)?;
        if bytes.len() as u64 != length {
            let problem =
                format!("has {length} bytes from byte {start} of {}, of which {} are there", printable(&view.storage), bytes.len());
            return Err(format!("{problem}; the file is damaged: download it again").into());
        }
        Ok(gathered(bytes, &header.shape, &view.strides, size))
    }
}

/// Returns what the names of the archive's entries begin with: the folder of the pickle.
fn root(archive: &ZipArchive<impl Read + Seek>) -> Result<String, Problem> {
    let names = archive.file_names().collect::<Result<Vec<_>, _>>().map_err(damaged)?;
    let roots = names.iter().filter_map(|name| name.strip_suffix("data.pkl")).filter(|root| root.is_empty() || root.ends_with('/'));
    let shortest = roots.min_by_key(|root| root.len());
    Ok(shortest.ok_or("is a zip archive without data.pkl; expected a .pth as torch.save writes it, or a .safetensors")?.to_owned())
}

/// Reads `length` bytes of an entry from byte `start`, or what there is of them. An entry that is read to its end has its
/// CRC-32 checked.
fn entry(archive: &mut ZipArchive<impl Read + Seek>, name: &str, start: u64, length: u64) -> Result<Vec<u8>, Problem> {
    let index = archive.index_for_name(name).ok_or_else(|| format!("has no entry {}; the file is damaged", printable(name)))?;
    // PyTorch writes 0 where it computes no CRC-32.
    let unchecked = archive.by_index_raw(index).map_err(damaged)?.crc32() == 0;
    let mut entry = archive.by_index_with_options(index, ZipReadOptions::new().ignore_crc32(unchecked)).map_err(damaged)?;
    let fail = |e: io::Error| Problem::caused_by(format!("cannot be read: {e}; the file is damaged: download it again"), e);
    io::copy(&mut (&mut entry).take(start), &mut io::sink()).map_err(fail)?;
    // What an entry claims was checked against the file.
    let rest = entry.size().saturating_sub(start);
    let mut bytes = Vec::with_capacity(length.min(rest) as usize);
    (&mut entry).take(length.min(rest)).read_to_end(&mut bytes).map_err(fail)?;
    // The end is noticed by reading on.
    if length >= rest && entry.read(&mut [0]).map_err(fail)? > 0 {
        return Err(format!("has an entry {} that is longer than it claims; it is damaged or not to be trusted", printable(name)).into());
    }
    Ok(bytes)
}

/// Returns the bytes of a tensor, row by row, from those between its first and its last element.
fn gathered(bytes: Vec<u8>, shape: &[usize], strides: &[usize], size: usize) -> Vec<u8> {
    let count: usize = shape.iter().product();
    if bytes.len() == count * size && is_contiguous(shape, strides) {
        return bytes;
    }
    let mut values = Vec::with_capacity(count * size);
    for index in 0..count {
        let mut rest = index;
        let steps = shape.iter().zip(strides).rev().map(|(extent, stride)| {
            let at = rest % extent;
            rest /= extent;
            at * stride
        });
        let at = steps.sum::<usize>() * size;
        values.extend_from_slice(&bytes[at..at + size]);
    }
    values
}

/// Whether elements follow each other row by row. A dimension of one element has any stride.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    shape.iter().zip(strides).rev().all(|(&extent, &stride)| {
        let fits = extent == 1 || stride == step;
        step *= extent;
        fits
    })
}

/// How many bytes a tensor takes. One of a type that is never read takes none.
fn claimed(header: &TensorHeader) -> u64 {
    let count = header.shape.iter().fold(1, |count: u64, &extent| count.saturating_mul(extent as u64));
    count.saturating_mul(header.dtype.size().unwrap_or(0) as u64)
}

/// What a pickle holds of tensors and texts.
#[derive(Default)]
struct Contents {
    tensors: BTreeMap<String, TensorHeader>,
    views: BTreeMap<String, View>,
    texts: BTreeMap<String, String>,
    places: usize,
}

impl Contents {
    fn of(pickle: &Pickle) -> Result<Self, String> {
        let mut contents = Self::default();
        let Value::Dict(pairs) = pickle.get(pickle.root()) else { return Err("holds no dictionary of weights".into()) };
        for (key, value) in pairs {
            if let Some((key, text)) = pickle.text(*key).zip(pickle.text(*value)) {
                contents.texts.insert(key.into(), text.into());
            }
        }
        contents.walk(pickle, pickle.root(), "", 0)?;
        Ok(contents)
    }

    /// Adds the tensors below a value, whose name is `path`.
    fn walk(&mut self, pickle: &Pickle, id: Id, path: &str, depth: usize) -> Result<(), String> {
        self.places += 1;
        if depth > MOST_DEPTH || self.places > MOST_PLACES || path.len() > LONGEST_NAME {
            return Err(format!("its dictionaries are larger or deeper than those of weights, at {}", printable(path)));
        }
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match pickle.get(id) {
            Value::Dict(pairs) => {
                for (key, value) in pairs {
                    // A key of another type is in the name of no weight.
                    let Some(key) = key_name(pickle, *key) else { continue };
                    self.walk(pickle, *value, &below(&key), depth + 1)?;
                }
            }
            Value::Sequence(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.walk(pickle, *item, &below(&i.to_string()), depth + 1)?;
                }
            }
            Value::Call(..) => match pickle.call(id) {
                Some(("torch._utils", "_rebuild_tensor_v2", arguments)) => {
                    let (header, view) =
                        tensor(pickle, arguments).map_err(|problem| format!("its tensor {} {problem}", printable(path)))?;
                    self.add(path, header, view)?;
                }
                Some(("torch._utils", "_rebuild_parameter", [data, ..])) => self.walk(pickle, *data, path, depth + 1)?,
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, name: &str, header: TensorHeader, view: View) -> Result<(), String> {
        if self.tensors.insert(name.into(), header).is_some() {
            return Err(format!("holds {} twice", printable(name)));
        }
        self.views.insert(name.into(), view);
        if self.tensors.len() > MOST_TENSORS { Err(format!("holds more than {MOST_TENSORS} tensors")) } else { Ok(()) }
    }
}

/// The part of a tensor's name that a key of a dictionary is.
fn key_name(pickle: &Pickle, key: Id) -> Option<String> {
    match pickle.get(key) {
        Value::Text(text) => Some((*text).to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the tensor that `_rebuild_tensor_v2(storage, offset, shape, strides, ...)` makes.
fn tensor(pickle: &Pickle, arguments: &[Id]) -> Result<(TensorHeader, View), String> {
    let [storage, offset, shape, strides, ..] = arguments else { return Err("has too few arguments".into()) };
    let (dtype, storage, elements) = storage_of(pickle, *storage).ok_or("has a storage of another form")?;
    let counts = |id: Id| -> Option<Vec<u64>> { pickle.sequence(id)?.iter().map(|id| pickle.count(*id)).collect() };
    let (start, shape, strides) = (pickle.count(*offset), counts(*shape), counts(*strides));
    let (Some(start), Some(shape), Some(strides)) = (start, shape, strides) else { return Err("has no shape, strides or offset".into()) };
    let extent = extent(&shape, &strides).ok_or_else(|| format!("has strides that do not fit its {} dimensions", shape.len()))?;
    if start.checked_add(extent).is_none_or(|end| end > elements) {
        return Err(format!("takes {extent} elements from element {start} of a storage that has {elements}"));
    }
    if !countable(&shape) || !countable(&[extent]) {
        return Err(format!("has {} dimensions with more elements than this machine counts", shape.len()));
    }
    let sizes = |counts: Vec<u64>| counts.into_iter().map(|count| count as usize).collect();
    Ok((TensorHeader { shape: sizes(shape), dtype }, View { storage: storage.to_owned(), start, extent, strides: sizes(strides) }))
}

/// Returns how many elements there are from the first of a tensor to its last; `None` if no storage has as many.
fn extent(shape: &[u64], strides: &[u64]) -> Option<u64> {
    let last = |last: u64, (extent, stride): (&u64, &u64)| last.checked_add(extent.checked_sub(1)?.checked_mul(*stride)?);
    if shape.len() != strides.len() {
        return None;
    }
    if shape.contains(&0) { Some(0) } else { shape.iter().zip(strides).try_fold(0, last)?.checked_add(1) }
}

/// Whether the bytes of so many elements of any type fit the machine's memory. A stride of 0 repeats elements.
fn countable(shape: &[u64]) -> bool {
    let count = shape.iter().try_fold(8, |count: u64, extent| count.checked_mul(*extent));
    count.is_some_and(|bytes| isize::try_from(bytes).is_ok())
}

/// Returns the element type, the name and the number of elements of a storage: `("storage", class, name, place, elements)`.
fn storage_of<'a>(pickle: &Pickle<'a>, id: Id) -> Option<(Dtype, &'a str, u64)> {
    let Value::Outside(id) = pickle.get(id) else { return None };
    let [kind, class, name, _, elements] = pickle.sequence(*id)? else { return None };
    let Value::Global("torch", class) = pickle.get(*class) else { return None };
    Some((dtype(class), pickle.text(*name)?, pickle.count(*elements)?)).filter(|_| pickle.text(*kind) == Some("storage"))
}

fn dtype(class: &str) -> Dtype {
    match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" => Dtype::Other("signed integers"),
        "ByteStorage" => Dtype::Other("unsigned integers"),
        "BoolStorage" => Dtype::Other("bool"),
        _ => Dtype::Other("values of another type"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use super::*;
    use crate::checkpoint::pth::PthFile;

    const FIXTURES: [&str; 7] = ["flat", "flat_bf16", "flat_f16", "strided", "teacher", "wrapped", "nnunet"];

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/micro/{name}.pth"))
    }

    fn opened(bytes: Vec<u8>) -> Result<StateDict, Problem> {
        StateDict::from_reader(Cursor::new(bytes), Kind::Zip)
    }

    /// The same names, shapes, types, bytes and texts as `pytorch-reader` finds in a file.
    #[test]
    fn every_tensor_is_that_of_the_other_reader() {
        for name in FIXTURES {
            let path = fixture(name);
            let (ours, theirs) = (StateDict::open(&path, Kind::Zip).unwrap(), PthFile::open(&path, Kind::Zip).unwrap());
            assert!(ours.tensors().len() > 20, "{name}");
            assert_eq!((ours.tensors(), ours.container()), (theirs.tensors(), theirs.container()), "{name}");
            for (tensor, _) in ours.tensors().iter().filter(|(_, header)| header.dtype.size().is_some()) {
                assert_eq!(ours.read(tensor).unwrap(), theirs.read(tensor).unwrap(), "{name}: {tensor}");
            }
            assert_eq!(ours.top_level("trainer_name").unwrap(), theirs.top_level("trainer_name").unwrap(), "{name}");
        }
    }

    #[test]
    fn what_this_reader_cannot_do_is_told() {
        let legacy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/micro/legacy.pth");
        let error = StateDict::open(&legacy, Kind::Pickle).err().unwrap().to_string();
        assert!(error.contains("a version before 1.6") && error.contains("meddino convert"), "{error}");
        let flat = StateDict::open(&fixture("flat"), Kind::Zip).unwrap();
        assert_eq!(flat.sha256().unwrap_err().kind(), io::ErrorKind::Unsupported);
        let protocol_4 = read_all(made(b"\x80\x04}.")).unwrap_err().to_string();
        assert!(protocol_4.contains("protocol 4") && protocol_4.contains("save its weights alone"), "{protocol_4}");
    }

    /// Reads all of a file. Whatever happens is an error or a value.
    fn read_all(bytes: Vec<u8>) -> Result<usize, Problem> {
        let file = opened(bytes)?;
        file.tensors().keys().map(|name| file.read(name).map(|bytes| bytes.len())).sum()
    }

    #[test]
    fn a_file_that_is_cut_or_damaged_is_an_error_and_no_panic() {
        for name in ["nnunet", "strided"] {
            let whole = fs::read(fixture(name)).unwrap();
            for length in (0..whole.len()).step_by(whole.len() / 40) {
                assert!(read_all(whole[..length].to_vec()).is_err(), "{name} cut to {length}");
            }
            // The pickle is at the start of the file, and the archive's directory at its end.
            let mut refused = 0;
            let places = (0..8192).step_by(5).chain((whole.len() - 8192..whole.len()).step_by(37));
            for at in places {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x41;
                refused += usize::from(read_all(damaged).is_err());
            }
            assert!(refused > 500, "{name}: {refused} of the damaged files were refused");
        }
    }

    /// A zip archive with a pickle, and a storage of 24 bytes.
    fn made(pickle: &[u8]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[1; 24])] {
            zip.start_file(name, options).unwrap();
            io::Write::write_all(&mut zip, bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// The pickle of `{"w": tensor}` over a storage of 6 f32.
    fn pickled(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
        let numbers = |numbers: &[u8]| [b"(".to_vec(), numbers.iter().flat_map(|n| [b'K', *n]).collect(), b"t".to_vec()].concat();
        [
            &b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"[..],
            b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ",
            &[b'K', offset],
            &numbers(shape),
            &numbers(strides),
            b"\x89}tRs.",
        ]
        .concat()
    }

    #[test]
    fn a_tensor_beyond_its_storage_is_refused() {
        assert_eq!(read_all(made(&pickled(0, &[2, 3], &[3, 1]))).unwrap(), 24);
        assert_eq!(read_all(made(&pickled(5, &[4], &[0]))).unwrap(), 16);
        assert_eq!(read_all(made(&pickled(0, &[0, 9], &[9, 9]))).unwrap(), 0);
        for (offset, shape, strides, want) in [
            (1, &[2, 3][..], &[3, 1][..], "its tensor w takes 6 elements from element 1 of a storage that has 6"),
            (0, &[2, 3], &[4, 1], "takes 7 elements"),
            (0, &[2, 3], &[3], "strides that do not fit its 2 dimensions"),
            (0, &[255; 9], &[0; 9], "more elements than this machine counts"),
            (0, &[255; 4], &[0; 4], "its tensors claim"),
        ] {
            let error = read_all(made(&pickled(offset, shape, strides))).unwrap_err().to_string();
            assert!(error.contains(want), "{error}, where {want} was expected");
        }
    }

    #[test]
    fn dictionaries_without_end_are_refused() {
        // A list that holds itself, and lists that hold the list before twice.
        let circle = b"\x80\x02}X\x01\x00\x00\x00w]q\x00h\x00as.".to_vec();
        let mut doubled = b"\x80\x02}X\x01\x00\x00\x00w(]q\x00".to_vec();
        (0..28_u8).for_each(|i| doubled.extend([b']', b'q', i + 1, b'(', b'h', i, b'h', i, b'e']));
        doubled.extend(b"ts.");
        for pickle in [circle, doubled] {
            let error = read_all(made(&pickle)).unwrap_err().to_string();
            assert!(error.contains("its dictionaries are larger or deeper than those of weights, at w."), "{error}");
        }
    }
}
