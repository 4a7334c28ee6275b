//! Reads and checks the fields of a NRRD header.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::archive::InputFile;
use crate::ct::header_lines::{self, HeaderLines};
use crate::ct::scalar::Scalar;
use crate::error::Problem;

/// The encodings that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Gzip,
}

/// The fields of a header, by their names in lower case and without spaces: `space directions` is `spacedirections`.
#[derive(Debug)]
pub(super) struct Header {
    fields: BTreeMap<String, String>,
}

impl Header {
    /// Reads the header of the file at `path`. Also returns the file, and the offset of what follows the header.
    ///
    /// # Errors
    /// If the file cannot be read, or does not begin with a NRRD header.
    pub fn read(path: &Path) -> Result<(Self, InputFile, u64), Problem> {
        let mut lines = HeaderLines::open(path)?;
        let magic = lines.next()?.unwrap_or_default();
        let version = magic.strip_prefix("NRRD").and_then(|version| version.parse::<u32>().ok());
        match version {
            Some(1..=5) => {}
            Some(version) => return Err(format!("NRRD of version {version}; expected 1 to 5").into()),
            None => return Err("not a NRRD file: it does not begin as one".into()),
        }
        let mut fields = BTreeMap::new();
        while let Some(line) = lines.next()? {
            if line.is_empty() {
                break;
            }
            if line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(format!("broken header: the line {:?} is no field", shortened(&line)).into());
            };
            // A key and its value, metadata without a meaning in the format.
            if value.starts_with('=') {
                continue;
            }
            let key: String = name.to_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
            if fields.insert(key, value.trim().to_owned()).is_some() {
                return Err(format!("broken header: it says {} twice", shortened(name)).into());
            }
        }
        let (file, start) = lines.rest();
        Ok((Self { fields }, file, start))
    }

    /// Returns the field `name`, if the header has it.
    pub fn field(&self, name: &str) -> Option<&str> {
        let key: String = name.chars().filter(|c| *c != ' ').collect();
        self.fields.get(&key).map(String::as_str)
    }

    fn required(&self, name: &str) -> Result<&str, String> {
        self.field(name).ok_or_else(|| format!("broken header: it does not say {name}"))
    }

    /// Returns the file of the voxels, if it is not that of the header, which is at `path`.
    pub fn data_file(&self, path: &Path) -> Result<Option<PathBuf>, String> {
        let Some(name) = self.field("data file") else { return Ok(None) };
        let is_list = name.split_whitespace().next().is_none_or(|word| word == "LIST");
        if is_list || name.contains('%') {
            let name = shortened(name);
            return Err(format!("its voxels are in several files (data file: {name}), which is not read; save it as one .nrrd file"));
        }
        Ok(Some(header_lines::data_file(path, name, "no field \"data file\" if they follow it")?))
    }

    /// Returns the number of axes.
    pub fn axes(&self) -> Result<usize, String> {
        Ok(self.sizes()?.len())
    }

    fn sizes(&self) -> Result<Vec<u64>, String> {
        let (dimension, sizes) = (self.required("dimension")?, self.required("sizes")?);
        let found: Option<Vec<u64>> = sizes.split_whitespace().map(|word| word.parse().ok()).collect();
        let found = found.ok_or_else(|| format!("broken header: sizes are {:?}, expected whole numbers", shortened(sizes)))?;
        if dimension.parse() != Ok(found.len()) {
            return Err(format!("broken header: dimension is {}, but sizes has {} numbers", shortened(dimension), found.len()));
        }
        Ok(found)
    }

    /// Returns [S, H, W]: the file's axes, the slowest first.
    ///
    /// # Errors
    /// If the voxels are no volume or slice of single numbers.
    pub fn shape(&self) -> Result<[usize; 3], String> {
        let sizes = self.sizes()?;
        let kinds = self.field("kinds").unwrap_or_default();
        let is_place = |kind: &&str| ["domain", "space", "none", "???"].contains(kind);
        if let Some(kind) = kinds.split_whitespace().find(|kind| !is_place(kind)) {
            let kind = shortened(kind);
            return Err(format!(
                "has an axis of kind {kind} (sizes {sizes:?}); expected one number a voxel, and axes of space: split it first"
            ));
        }
        header_lines::shape(&sizes)
    }

    pub fn scalar(&self) -> Result<Scalar, String> {
        let name = self.required("type")?;
        let words: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
        Ok(match words.join(" ").as_str() {
            "signed char" | "int8" | "int8_t" => Scalar::I8,
            "uchar" | "unsigned char" | "uint8" | "uint8_t" => Scalar::U8,
            "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => Scalar::I16,
            "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Scalar::U16,
            "int" | "signed int" | "int32" | "int32_t" => Scalar::I32,
            "uint" | "unsigned int" | "uint32" | "uint32_t" => Scalar::U32,
            "longlong" | "long long" | "long long int" | "signed long long" | "signed long long int" | "int64" | "int64_t" => Scalar::I64,
            "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => Scalar::U64,
            "float" => Scalar::F32,
            "double" => Scalar::F64,
            "block" => return Err("its voxels are blocks of bytes (type: block), and no HU".into()),
            _ => return Err(format!("unknown type {:?}; expected a NRRD name such as short or float", shortened(name))),
        })
    }

    /// Returns the byte order, which a header must give if a value has several bytes.
    pub fn is_big_endian(&self, scalar: Scalar) -> Result<bool, String> {
        match self.field("endian").map(str::to_lowercase).as_deref() {
            Some("little") => Ok(false),
            Some("big") => Ok(true),
            None if scalar.size() == 1 => Ok(false),
            None => Err("broken header: it does not say endian, so its values may be read in two ways; add endian: little, or big".into()),
            Some(found) => Err(format!("broken header: endian is {:?}, expected little or big", shortened(found))),
        }
    }

    pub fn encoding(&self) -> Result<Encoding, String> {
        let name = self.required("encoding")?;
        match name.to_lowercase().as_str() {
            "raw" => Ok(Encoding::Raw),
            "gzip" | "gz" => Ok(Encoding::Gzip),
            "txt" | "text" | "ascii" | "hex" | "bzip2" | "bz2" => {
                Err(format!("encoding {name} is not read; save it with encoding gzip or raw"))
            }
            _ => Err(format!("broken header: encoding is {:?}, expected raw or gzip", shortened(name))),
        }
    }

    /// Returns the number of lines between the header and the voxels, or before the voxels in a file of their own.
    pub fn line_skip(&self) -> Result<u64, String> {
        let text = self.field("line skip").unwrap_or("0");
        text.parse().map_err(|_| format!("broken header: line skip is {:?}, expected a whole number", shortened(text)))
    }

    /// Returns the number of bytes before the voxels, or `None` for -1: the voxels are the last bytes of the file.
    pub fn byte_skip(&self) -> Result<Option<u64>, String> {
        match self.field("byte skip").unwrap_or("0") {
            "-1" => Ok(None),
            text => {
                let number =
                    text.parse().map_err(|_| format!("broken header: byte skip is {:?}, expected a whole number or -1", shortened(text)));
                number.map(Some)
            }
        }
    }
}

/// Returns the first characters of a text from a file, for an error.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
