//! One slice of a DICOM file: its position in the patient, its pixel format, and its conversion to HU.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::header::{Encoding, Header, PixelData};
use super::traits::Traits;
use crate::ct::source::MAX_SLICE_SIDE;

/// The most frames of a file. Each frame takes some hundred bytes of memory, but in a deflated data set it may take
/// less than a hundredth of a byte of the file.
const MAX_FRAMES: i64 = 1 << 16;
/// Slices closer to each other than this, in mm, are in the same place.
pub(super) const SAME_PLACE: f64 = 0.01;
/// The HU of air, which replaces padding that would be brighter than any tissue.
pub(super) const AIR: f32 = -1000.0;
/// The highest HU that scanners write, in 12 bits. A higher value is metal or no measurement.
const HIGHEST: f64 = 3071.0;

/// A file of one or more frames, all of one size and format.
#[derive(Debug)]
pub(super) struct Image {
    pub path: PathBuf,
    pub encoding: Encoding,
    pub pixels: PixelData,
    pub format: PixelFormat,
    /// How many frames the file holds.
    pub frames: u32,
    /// SOPClassUID.
    pub class: String,
    /// SOPInstanceUID.
    pub uid: String,
    pub series: String,
    pub series_number: Option<i64>,
    pub description: String,
    /// SpacingBetweenSlices, or else SliceThickness, in mm. Used for a stack of one slice.
    pub thickness: Option<f64>,
    /// SliceThickness in mm.
    pub slice_thickness: Option<f64>,
    /// SpacingBetweenSlices in mm, negative if slices follow one another against the normal.
    pub distance: Option<f64>,
    /// Reasons why its HU or positions may differ from what is expected.
    pub doubts: Vec<String>,
}

/// How pixels are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PixelFormat {
    pub rows: u16,
    pub columns: u16,
    /// Bits per pixel: 8, 16 or 32, of which the low `stored` bits count.
    pub allocated: u16,
    pub stored: u16,
    /// Whether values are in two's complement.
    pub signed: bool,
}

/// One slice.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub image: Arc<Image>,
    /// Which frame of the image, from 0.
    pub index: u32,
    /// `None` if the file does not give the position of the slice.
    pub plane: Option<Plane>,
    /// Millimetres between rows and between columns.
    pub spacing: Option<[f64; 2]>,
    pub rescale: Rescale,
    pub traits: Arc<Traits>,
    /// InstanceNumber.
    pub instance: Option<i64>,
    /// Acquisition and instance number. They decide which of two slices in one place comes first.
    pub order: [i64; 2],
}

/// The position and orientation of a slice in DICOM's axes: x to the patient's left, y to posterior, z to superior.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plane {
    /// The centre of the first pixel, in mm.
    pub position: [f64; 3],
    /// The direction along a row, in which column numbers increase.
    pub along_row: [f64; 3],
    /// The direction down a column, in which row numbers increase.
    pub down_column: [f64; 3],
}

impl Plane {
    /// Returns the right-handed unit normal of the plane.
    pub fn normal(&self) -> [f64; 3] {
        cross(self.along_row, self.down_column)
    }

    /// Returns the position of the plane along its normal, in mm.
    pub fn depth(&self) -> f64 {
        dot(self.position, self.normal())
    }

    /// Returns the plane moved along its normal by `mm`.
    pub fn moved(&self, mm: f64) -> Self {
        let normal = self.normal();
        Self { position: std::array::from_fn(|i| self.position[i] + mm * normal[i]), ..*self }
    }
}

/// The conversion to HU: stored * slope + intercept in f64, as in pydicom, except for padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rescale {
    pub slope: f64,
    pub intercept: f64,
    /// The range of stored values, both ends inclusive, of pixels outside the scanned field.
    pub padding: Option<[i64; 2]>,
}

impl Rescale {
    /// Returns the HU of a stored value.
    fn linear(&self, stored: i64) -> f64 {
        stored as f64 * self.slope + self.intercept
    }

    /// Returns the brightest HU that padding would have, if the file defines padding.
    pub fn padding_hu(&self) -> Option<f64> {
        self.padding.map(|[low, high]| self.linear(low).max(self.linear(high)))
    }

    /// Returns whether padding would be brighter than any tissue, and therefore becomes air.
    pub fn replaces_padding(&self) -> bool {
        self.padding_hu().is_some_and(|hu| hu > HIGHEST)
    }

    /// Converts stored values to HU.
    pub fn hu(&self, stored: impl Iterator<Item = i64>) -> Vec<f32> {
        let padding = self.padding.filter(|_| self.replaces_padding());
        let is_padding = |v: i64| padding.is_some_and(|[low, high]| (low..=high).contains(&v));
        stored.map(|v| if is_padding(v) { AIR } else { self.linear(v) as f32 }).collect()
    }
}

impl PixelFormat {
    fn of(header: &Header) -> Result<Self, String> {
        let required = |tag, name: &str| header.integer(tag, name)?.ok_or_else(|| format!("{name} is missing"));
        let side = |tag, name| match required(tag, name)? {
            side if (1..=MAX_SLICE_SIDE as i64).contains(&side) => Ok(side as u16),
            side => Err(format!("{name} is {side}: expected 1 to {MAX_SLICE_SIDE}")),
        };
        let (rows, columns) = (side(tags::ROWS, "Rows")?, side(tags::COLUMNS, "Columns")?);
        let allocated = required(tags::BITS_ALLOCATED, "BitsAllocated")?;
        if ![8, 16, 32].contains(&allocated) {
            return Err(format!("BitsAllocated is {allocated}: expected 8, 16 or 32"));
        }
        let stored = header.integer(tags::BITS_STORED, "BitsStored")?.unwrap_or(allocated);
        let high = header.integer(tags::HIGH_BIT, "HighBit")?.unwrap_or(stored - 1);
        if !(1..=allocated).contains(&stored) || high != stored - 1 {
            return Err(format!("BitsStored is {stored} and HighBit {high}: expected 1 to {allocated}, and one less"));
        }
        let signed = match header.integer(tags::PIXEL_REPRESENTATION, "PixelRepresentation")?.unwrap_or(0) {
            0 => false,
            1 => true,
            other => return Err(format!("PixelRepresentation is {other}: expected 0 or 1")),
        };
        Ok(Self { rows, columns, allocated: allocated as u16, stored: stored as u16, signed })
    }

    /// Returns the number of pixels: rows times columns.
    pub fn len(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Returns the value of the low `stored` bits of `raw`. Ignores the bits above them.
    pub fn value(&self, raw: u32) -> i64 {
        let shift = 32 - u32::from(self.stored);
        let high = raw << shift;
        if self.signed { i64::from(high as i32 >> shift) } else { i64::from(high >> shift) }
    }
}

impl Image {
    /// Reads everything that applies to the whole file, and checks it against the bytes that the file holds.
    fn of(path: &Path, header: &Header) -> Result<Self, String> {
        let format = PixelFormat::of(header)?;
        if header.has_modality_lut {
            return Err("its HU come by a ModalityLUTSequence: only RescaleSlope and RescaleIntercept are read".into());
        }
        let frames = match header.integer(tags::NUMBER_OF_FRAMES, "NumberOfFrames")?.unwrap_or(1) {
            frames @ 1..=MAX_FRAMES => frames as u32,
            frames => return Err(format!("NumberOfFrames is {frames}: expected 1 to {MAX_FRAMES}")),
        };
        let pixels = header.pixels.ok_or("it ends before any pixel data: the file is damaged")?;
        let raw = u64::from(frames) * format.len() as u64 * u64::from(format.allocated / 8);
        // An encapsulated frame takes at least the eight bytes of its item's header.
        let (found, expected) = match pixels.length {
            Some(length) => (length.min(pixels.available), raw),
            None => (pixels.available, u64::from(frames) * 8),
        };
        if found < expected {
            let PixelFormat { rows, columns, allocated, .. } = format;
            return Err(format!(
                "its pixel data is cut off: {frames} x {rows} x {columns} pixels of {allocated} bits need {expected} bytes, {found} are there"
            ));
        }
        // Some programs decompress the pixels and leave the old transfer syntax.
        let syntax = header.encoding.transfer_syntax;
        let uncompressed = (pixels.length.is_some() && syntax.is_encapsulated_pixel_data())
            .then(|| format!("its transfer syntax is {}, but its pixel data is not encapsulated", syntax.name()));
        if let Some(problem) = uncompressed.as_ref().filter(|_| pixels.length.is_none_or(|length| length != raw.next_multiple_of(2))) {
            return Err(format!("{problem}, nor of the {raw} bytes that it has uncompressed"));
        }
        let uncompressed = uncompressed.map(|problem| format!("{problem}: it is read as uncompressed"));
        // These values only matter for a stack of one slice, so an invalid value is not an error.
        let positive = |tag| header.numbers(0, tag, "").ok().flatten().map(|[v]: [f64; 1]| v).filter(|&v| v > 0.0 && v < 1e3);
        let text = |tag| header.text(tag).unwrap_or_default().to_string();
        Ok(Self {
            path: path.to_owned(),
            encoding: header.encoding,
            pixels,
            format,
            frames,
            class: header.text(tags::SOP_CLASS_UID).or(header.text(tags::MEDIA_STORAGE_SOP_CLASS_UID)).unwrap_or_default().into(),
            uid: text(tags::SOP_INSTANCE_UID),
            series: text(tags::SERIES_INSTANCE_UID),
            series_number: header.integer(tags::SERIES_NUMBER, "SeriesNumber").unwrap_or_default(),
            description: text(tags::SERIES_DESCRIPTION),
            thickness: positive(tags::SPACING_BETWEEN_SLICES).or_else(|| positive(tags::SLICE_THICKNESS)),
            slice_thickness: positive(tags::SLICE_THICKNESS),
            distance: distance(header),
            doubts: header.contradiction.clone().into_iter().chain(doubt(header)).chain(uncompressed).collect(),
        })
    }

    /// Returns the file's name.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }
}

/// Returns the stated distance between slices along their normal. An invalid value counts as missing, and is not an
/// error.
fn distance(header: &Header) -> Option<f64> {
    let distance = header.numbers(0, tags::SPACING_BETWEEN_SLICES, "").ok().flatten().map(|[v]: [f64; 1]| v);
    distance.filter(|mm| (1e-3..1e3).contains(&mm.abs()))
}

/// Returns the reason why rescaled values may not be HU.
fn doubt(header: &Header) -> Option<String> {
    match header.frame_text(0, tags::RESCALE_TYPE) {
        Some("HU") => None,
        Some(other) => Some(format!("RescaleType is {other} in place of HU")),
        None if header.frame_text(0, tags::RESCALE_SLOPE).is_none() => {
            Some("RescaleSlope and RescaleIntercept are missing, and stored values are taken as HU".into())
        }
        None => None,
    }
}

/// Returns the slices of a file.
///
/// # Errors
/// If an element is missing or absurd, or the pixel data is shorter than the elements state.
pub(super) fn frames(path: &Path, header: &Header) -> Result<Vec<Frame>, String> {
    let mut image = Image::of(path, header)?;
    let mut planes = (0..image.frames).map(|index| plane(header, index)).collect::<Result<Vec<_>, _>>()?;
    let mut last = Arc::new(Traits::of(header, 0));
    let traits = (0..image.frames).map(|index| {
        let traits = Traits::of(header, index);
        if *last != traits {
            last = Arc::new(traits);
        }
        last.clone()
    });
    let traits: Vec<Arc<Traits>> = traits.collect();
    if traits.iter().all(|other| *other == traits[0]) {
        image.doubts.extend(spread(&mut planes, image.distance)?);
    }
    let image = Arc::new(image);
    let number = |tag| header.integer(tag, "").ok().flatten();
    let instance = number(tags::INSTANCE_NUMBER);
    let order = [number(tags::ACQUISITION_NUMBER), instance].map(|number| number.unwrap_or(i64::MAX));
    let frame = |(index, (plane, traits))| {
        let index = index as u32;
        let (spacing, rescale) = (spacing(header, index)?, rescale(header, index, image.format)?);
        Ok(Frame { image: image.clone(), index, plane, spacing, rescale, traits, instance, order })
    };
    planes.into_iter().zip(traits).enumerate().map(frame).collect()
}

/// Places frames that all have the same position `distance` apart, in their order, and returns a warning. Without a
/// distance their positions are unknown, so axial frames get no position and a warning, and other frames are an error.
fn spread(planes: &mut [Option<Plane>], distance: Option<f64>) -> Result<Option<String>, String> {
    let [Some(first), ref others @ ..] = *planes else { return Ok(None) };
    if others.is_empty() || others.iter().any(|other| *other != Some(first)) {
        return Ok(None);
    }
    if let Some(mm) = distance {
        planes.iter_mut().enumerate().for_each(|(index, plane)| *plane = Some(first.moved(mm * index as f64)));
        return Ok(Some(format!(
            "one ImagePositionPatient for all frames: they are assumed to be {mm} mm apart (SpacingBetweenSlices), in their order"
        )));
    }
    // Slices without a position are taken to be axial.
    if first.along_row[0] < 0.9 || first.down_column[1] < 0.9 {
        return Err("one ImagePositionPatient for all frames, and no SpacingBetweenSlices: how far apart they are is unknown".into());
    }
    planes.fill(None);
    Ok(Some("one ImagePositionPatient for all frames, and no SpacingBetweenSlices: they are read in their order, how far apart they are is unknown".into()))
}

fn plane(header: &Header, index: u32) -> Result<Option<Plane>, String> {
    let position = header.numbers(index, tags::IMAGE_POSITION_PATIENT, "ImagePositionPatient")?;
    let cosines = header.numbers(index, tags::IMAGE_ORIENTATION_PATIENT, "ImageOrientationPatient")?;
    let (Some(position), Some([a, b, c, d, e, f])) = (position, cosines) else { return Ok(None) };
    let (along_row, down_column) = ([a, b, c], [d, e, f]);
    let is_unit = |v: [f64; 3]| (dot(v, v) - 1.0).abs() < 1e-2;
    if !is_unit(along_row) || !is_unit(down_column) || dot(along_row, down_column).abs() > 1e-2 {
        return Err(format!("ImageOrientationPatient is {:?}: expected two unit vectors at a right angle", [a, b, c, d, e, f]));
    }
    if position.iter().any(|v| v.abs() > 1e5) {
        return Err(format!("ImagePositionPatient is {position:?} mm: no patient is there"));
    }
    Ok(Some(Plane { position, along_row, down_column }))
}

fn spacing(header: &Header, index: u32) -> Result<Option<[f64; 2]>, String> {
    let spacing: Option<[f64; 2]> = header.numbers(index, tags::PIXEL_SPACING, "PixelSpacing")?;
    match spacing {
        Some(mm) if mm.iter().any(|v| !(1e-4..=1e3).contains(v)) => {
            Err(format!("PixelSpacing is {mm:?} mm: expected numbers from 0.0001 to 1000"))
        }
        spacing => Ok(spacing),
    }
}

fn rescale(header: &Header, index: u32, format: PixelFormat) -> Result<Rescale, String> {
    let number = |tag, name| Ok::<_, String>(header.numbers(index, tag, name)?.map(|[v]: [f64; 1]| v));
    let slope = number(tags::RESCALE_SLOPE, "RescaleSlope")?.unwrap_or(1.0);
    let intercept = number(tags::RESCALE_INTERCEPT, "RescaleIntercept")?.unwrap_or(0.0);
    if slope == 0.0 || slope.abs() > 1e6 || intercept.abs() > 1e9 {
        return Err(format!("RescaleSlope is {slope} and RescaleIntercept {intercept}: these give no HU"));
    }
    // Writers disagree on whether padding is signed. Its bits are therefore read like those of a stored pixel.
    let padding = |tag: Tag, name| Ok::<_, String>(header.integer(tag, name)?.map(|v| format.value(v as u32)));
    let value = padding(tags::PIXEL_PADDING_VALUE, "PixelPaddingValue")?;
    let limit = padding(tags::PIXEL_PADDING_RANGE_LIMIT, "PixelPaddingRangeLimit")?;
    let padding = value.map(|value| [value.min(limit.unwrap_or(value)), value.max(limit.unwrap_or(value))]);
    Ok(Rescale { slope, intercept, padding })
}

/// Returns the vector product, which is at a right angle to both vectors.
fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Returns the scalar product.
pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_bits_are_no_part_of_a_value() {
        let format = |stored, signed| PixelFormat { rows: 1, columns: 1, allocated: 16, stored, signed };
        assert_eq!(format(12, false).value(0xFFFF), 4095);
        assert_eq!(format(12, true).value(0xF7FF), 2047);
        assert_eq!(format(12, true).value(0x0800), -2048);
        assert_eq!(format(16, true).value(0x8000), -32768);
        assert_eq!(format(16, false).value(0x8000), 32768);
        assert_eq!(format(32, true).value(0xFFFF_FFFE), -2);
        assert_eq!(format(1, false).value(3), 1);
    }

    #[test]
    fn padding_becomes_air_only_where_it_would_be_brighter_than_tissue() {
        let with = |intercept, padding| Rescale { slope: 1.0, intercept, padding };
        assert_eq!(with(-1024.0, Some([-2000, -2000])).hu([-2000, 0].into_iter()), [-3024.0, -1024.0]);
        assert_eq!(with(-1024.0, Some([63_536, 63_536])).hu([63_536, 0].into_iter()), [AIR, -1024.0]);
        assert_eq!(with(-1024.0, Some([60_000, 63_536])).hu([60_000, 59_999].into_iter()), [AIR, 58_975.0]);
        assert_eq!(with(0.0, Some([0, 0])).hu([0, 1].into_iter()), [0.0, 1.0]);
        assert_eq!(with(0.0, None).hu([63_536].into_iter()), [63_536.0]);
    }
}
