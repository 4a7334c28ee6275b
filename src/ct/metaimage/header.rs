//! Reads and checks the fields of a MetaImage header. What a header leaves out is taken as SimpleITK 2.5 does, with a
//! warning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::archive::InputFile;
use crate::ct::grid::Grid;
use crate::ct::header_lines::{self, HeaderLines, numbers};
use crate::ct::scalar::Scalar;
use crate::error::Problem;

/// The largest deviation of a direction's length from 1.
const LENGTH: f64 = 1e-3;

/// The fields of a header, by name.
#[derive(Debug)]
pub(super) struct Header {
    fields: BTreeMap<String, String>,
}

impl Header {
    /// Reads the header of the file at `path`. Also returns the file, and the offset of what follows the header.
    ///
    /// # Errors
    /// If the file cannot be read, or does not begin with the header of an image.
    pub fn read(path: &Path) -> Result<(Self, InputFile, u64), Problem> {
        let mut lines = HeaderLines::open(path)?;
        let mut fields = BTreeMap::new();
        // The name of the data file is the last field.
        while !fields.contains_key("ElementDataFile") {
            let Some(line) = lines.next()? else {
                let problem = if fields.is_empty() {
                    "not a MetaImage file: it is empty"
                } else {
                    "broken header: the file ends before ElementDataFile"
                };
                return Err(problem.into());
            };
            let Some((name, value)) = line.split_once('=') else {
                if line.is_empty() {
                    continue;
                }
                let problem =
                    if fields.is_empty() { "not a MetaImage file: it begins with" } else { "broken header: no field is in the line" };
                return Err(format!("{problem} {:?}", shortened(&line)).into());
            };
            if fields.insert(name.trim().to_owned(), value.trim().to_owned()).is_some() {
                return Err(format!("broken header: it says {} twice", shortened(name.trim())).into());
            }
        }
        let header = Self { fields };
        match header.field(&["ObjectType"]) {
            None | Some("Image") => {}
            Some(other) => return Err(format!("holds an object of type {}, expected Image", shortened(other)).into()),
        }
        let (file, start) = lines.rest();
        Ok((header, file, start))
    }

    /// Returns the first field of `names` that the header has.
    fn field(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.fields.get(*name)).map(String::as_str)
    }

    fn required(&self, name: &str) -> Result<&str, String> {
        self.field(&[name]).ok_or_else(|| format!("broken header: it does not say {name}"))
    }

    /// Returns a field that is true or false, as MetaIO reads it.
    fn flag(&self, names: &[&str]) -> Result<Option<bool>, String> {
        match self.field(names).map(|text| (text, text.chars().next())) {
            None => Ok(None),
            Some((_, Some('T' | 't' | '1'))) => Ok(Some(true)),
            Some((_, Some('F' | 'f' | '0'))) => Ok(Some(false)),
            Some((text, _)) => Err(format!("broken header: {} is {:?}, expected True or False", names[0], shortened(text))),
        }
    }

    /// Returns the `N` numbers of the first field of `names` that the header has.
    fn numbers<const N: usize>(&self, names: &[&str]) -> Result<Option<[f64; N]>, String> {
        let Some(text) = self.field(names) else { return Ok(None) };
        let name = names.iter().find(|name| self.fields.contains_key(**name)).unwrap_or(&names[0]);
        let found = numbers(text, ' ').filter(|numbers| numbers.iter().all(|v| v.is_finite()));
        found.map(Some).ok_or_else(|| format!("broken header: {name} is {:?}, expected {N} numbers", shortened(text)))
    }

    /// Returns the file of the voxels, if it is not that of the header, which is at `path`.
    pub fn data_file(&self, path: &Path) -> Result<Option<PathBuf>, String> {
        let name = self.required("ElementDataFile")?;
        let several =
            |name: &str| name.split_whitespace().next().is_none_or(|word| word.eq_ignore_ascii_case("LIST")) || name.contains('%');
        match name {
            _ if name.eq_ignore_ascii_case("LOCAL") => Ok(None),
            _ if several(name) => {
                let name = shortened(name);
                Err(format!("its voxels are in several files (ElementDataFile = {name}), which is not read; save it as one .mha file"))
            }
            _ => Ok(Some(header_lines::data_file(path, name, "ElementDataFile = LOCAL")?)),
        }
    }

    /// Returns [S, H, W]: the file's axes, the slowest first.
    ///
    /// # Errors
    /// If the voxels are no volume or slice of single numbers, or are text.
    pub fn shape(&self) -> Result<[usize; 3], String> {
        let (axes, text) = (self.required("NDims")?, self.required("DimSize")?);
        let sizes: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        let sizes = sizes.ok_or_else(|| format!("broken header: DimSize is {:?}, expected whole numbers", shortened(text)))?;
        if axes.parse() != Ok(sizes.len()) {
            return Err(format!("broken header: NDims is {}, but DimSize has {} numbers", shortened(axes), sizes.len()));
        }
        match self.field(&["ElementNumberOfChannels"]) {
            None | Some("1") => {}
            Some(channels) => return Err(format!("has {} numbers a voxel (ElementNumberOfChannels); expected one", shortened(channels))),
        }
        if self.flag(&["BinaryData"])? == Some(false) {
            return Err("its voxels are text (BinaryData = False), which is not read; save it as binary".into());
        }
        header_lines::shape(&sizes)
    }

    /// Returns the type of a voxel. Sizes are MetaIO's, in which a long has 4 bytes.
    pub fn scalar(&self) -> Result<Scalar, String> {
        let name = self.required("ElementType")?;
        Ok(match name {
            "MET_CHAR" => Scalar::I8,
            "MET_UCHAR" => Scalar::U8,
            "MET_SHORT" => Scalar::I16,
            "MET_USHORT" => Scalar::U16,
            "MET_INT" | "MET_LONG" => Scalar::I32,
            "MET_UINT" | "MET_ULONG" => Scalar::U32,
            "MET_LONG_LONG" => Scalar::I64,
            "MET_ULONG_LONG" => Scalar::U64,
            "MET_FLOAT" => Scalar::F32,
            "MET_DOUBLE" => Scalar::F64,
            _ => return Err(format!("ElementType {} is no number of HU; expected one such as MET_SHORT or MET_FLOAT", shortened(name))),
        })
    }

    pub fn is_big_endian(&self, scalar: Scalar, warnings: &mut Vec<String>) -> Result<bool, String> {
        let (binary, element) = (self.flag(&["BinaryDataByteOrderMSB"])?, self.flag(&["ElementByteOrderMSB"])?);
        match (binary, element) {
            (Some(binary), Some(element)) if binary != element => {
                Err("broken header: BinaryDataByteOrderMSB and ElementByteOrderMSB contradict each other; remove the wrong one".into())
            }
            (None, None) => {
                if scalar.size() > 1 {
                    warnings
                        .push("its header gives no byte order (BinaryDataByteOrderMSB); little-endian was taken, as SimpleITK does".into());
                }
                Ok(false)
            }
            _ => Ok(binary.or(element) == Some(true)),
        }
    }

    /// Warns of a scale that the values are to be multiplied with, which no known reader does.
    pub fn warn_of_scale(&self, warnings: &mut Vec<String>) {
        let [slope, offset] = ["ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"].map(|name| self.field(&[name]));
        let is = |field: Option<&str>, neutral: f64| field.is_none_or(|text| text.parse() == Ok(neutral));
        if !is(slope, 1.0) || !is(offset, 0.0) {
            let [slope, offset] = [slope, offset].map(|text| shortened(text.unwrap_or("(none)")));
            warnings.push(format!(
                "its header gives a scale for its values (ElementToIntensityFunctionSlope {slope}, Offset {offset}); values were taken as stored, as \
                 SimpleITK does: check that they are HU"
            ));
        }
    }

    /// Returns the voxel grid, or `None` if the header gives no distances in space. Warns of what was assumed.
    ///
    /// # Errors
    /// If a field cannot be understood, or a direction is not of length 1.
    pub fn grid(&self, warnings: &mut Vec<String>) -> Result<Option<Grid>, String> {
        if self.field(&["NDims"]) == Some("2") {
            warnings.push("a single slice of two axes: its position in the patient is not read".into());
            return Ok(None);
        }
        let Some(spacing) = self.numbers(&["ElementSpacing", "ElementSize"])? else {
            warnings.push("its header does not say how far its voxels are apart (ElementSpacing); its position is not known".into());
            return Ok(None);
        };
        if spacing.iter().any(|size| *size <= 0.0) {
            return Err(format!("broken header: ElementSpacing is {spacing:?}, expected three distances above 0"));
        }
        let matrix = self.numbers::<9>(&["TransformMatrix", "Rotation", "Orientation"])?;
        let origin = self.numbers(&["Offset", "Position", "Origin"])?;
        if matrix.is_none() {
            warnings.push(
                "its header does not state its orientation (no TransformMatrix): columns are taken to run to the left, rows to posterior, slices to \
                 superior, as SimpleITK does; look at a slice, and read it with `orient` stored if that is wrong"
                    .into(),
            );
        }
        if origin.is_none() {
            warnings.push("its header gives no position (no Offset); 0 was taken".into());
        }
        let [a, b, c, d, e, f, g, h, i] = matrix.unwrap_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        // A row of the matrix is the direction of an axis.
        let directions = [[a, b, c], [d, e, f], [g, h, i]];
        if directions.iter().any(|v| (v.iter().map(|v| v * v).sum::<f64>().sqrt() - 1.0).abs() > LENGTH) {
            return Err(format!(
                "broken header: TransformMatrix has the rows {directions:?}, expected rows of length 1: distances would be those of the matrix or those \
                 of ElementSpacing"
            ));
        }
        Ok(Some(Grid { spacing, directions, origin: origin.unwrap_or_default() }))
    }

    /// Returns the number of compressed bytes, 0 if the header does not say, or `None` if the voxels are not compressed.
    pub fn compressed_bytes(&self) -> Result<Option<u64>, String> {
        if self.flag(&["CompressedData"])? != Some(true) {
            return Ok(None);
        }
        let text = self.field(&["CompressedDataSize"]).unwrap_or("0");
        let size =
            text.parse().map_err(|_| format!("broken header: CompressedDataSize is {:?}, expected a whole number", shortened(text)))?;
        Ok(Some(size))
    }

    /// Returns the offset of the voxels in their file, or `None` for -1: the voxels are the last bytes of the file. 0 means
    /// that the header does not say.
    pub fn header_size(&self) -> Result<Option<u64>, String> {
        match self.field(&["HeaderSize"]).unwrap_or("0") {
            "-1" => Ok(None),
            text => {
                let size =
                    text.parse().map_err(|_| format!("broken header: HeaderSize is {:?}, expected a whole number or -1", shortened(text)));
                size.map(Some)
            }
        }
    }
}

/// Returns the first characters of a text from a file, for an error.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
