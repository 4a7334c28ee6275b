//! Reads the patch tokens of a file that [`super::FeatureFile`] wrote, image by image.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::format::Format;
use crate::archive::Archive;
use crate::ct::{MAX_SLICES, Orient, Size};
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;
use crate::vit::config::{Grid, MAX_SIDE};

/// Name of the tensor that holds the patch tokens: [S, P, C].
const PATCHES: &str = "x_norm_patchtokens";

/// An open `.safetensors` feature file with patch tokens. Its metadata are checked against its tensor.
#[derive(Debug)]
pub struct StoredFeatures {
    name: String,
    archive: Archive,
    /// Shape of the patch tokens, [S, P, C].
    shape: [usize; 3],
    slices: Vec<usize>,
    grid: Grid,
    image: (usize, usize),
    patch_size: usize,
}

impl StoredFeatures {
    /// Opens `path` without reading tokens.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, holds no patch tokens, or does not describe their layout.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::checked(path).map_err(|problem| Error::input(path.display(), problem))
    }

    fn checked(path: &Path) -> Result<Self, Problem> {
        if let Some(format) = Format::of(path).filter(|&format| format != Format::Safetensors) {
            return Err(format!("a .{format}; features are read from .safetensors alone: write them with `format` safetensors").into());
        }
        let archive = Archive::open(path)?;
        let shape = match archive.tensors().get(PATCHES) {
            Some(stored) if stored.dtype.size().is_none() => {
                return Err(format!("{PATCHES}: expected floats, found {}", stored.dtype).into());
            }
            Some(stored) => <[usize; 3]>::try_from(&stored.shape[..])
                .ok()
                .filter(|shape| shape.iter().all(|&n| n > 0))
                .ok_or_else(|| format!("{PATCHES}: expected [S, P, C], found {:?}", stored.shape))?,
            None => {
                return Err(
                    format!("holds no {PATCHES}; expected a .safetensors that `meddino features` wrote, with `tokens` patch").into()
                );
            }
        };
        let metadatum = |name: &str| -> Result<Value, String> {
            let text = archive.metadata().get(name).ok_or_else(|| format!("its metadata have no {name}; `meddino features` writes it"))?;
            serde_json::from_str(text).map_err(|e| format!("its metadata say that {name} is {text}: {e}"))
        };
        let numbers = |name: &str| {
            let value = metadatum(name)?;
            let list = value.as_array().map_or_else(|| vec![&value], |list| list.iter().collect());
            let whole = |v: &&Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
            list.iter()
                .map(whole)
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| format!("its metadata say that {name} is {value}; expected whole numbers"))
        };
        let (slices, grid, image, patch_size) = (numbers("slices")?, numbers("grid")?, numbers("image")?, numbers("patch_size")?);
        let (&[rows, cols], &[height, width], &[patch_size]) = (&grid[..], &image[..], &patch_size[..]) else {
            return Err(format!("its metadata say that grid is {grid:?}, image {image:?} and patch_size {patch_size:?}").into());
        };
        let fits =
            |patches: usize, side: usize| (1..=MAX_SIDE).contains(&side) && patches > 0 && patch_size > 0 && patches <= side / patch_size;
        if !fits(rows, height) || !fits(cols, width) {
            return Err(format!("its metadata say {rows} x {cols} patches of {patch_size} pixels in an image of {height} x {width}").into());
        }
        if [slices.len(), rows * cols] != shape[..2] {
            return Err(format!("{PATCHES} is {shape:?}, but its metadata say {} slices of {rows} x {cols} patches", slices.len()).into());
        }
        if let Some(slice) = slices.iter().find(|&&slice| slice > MAX_SLICES) {
            return Err(format!("its metadata name slice {slice}, which no scan has").into());
        }
        let name = path.display().to_string();
        Ok(Self { name, archive, shape, slices, grid: Grid { rows, cols }, image: (height, width), patch_size })
    }

    /// Returns the metadata, see [`super::Provenance::metadata`].
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.archive.metadata()
    }

    /// Returns the scan's slices that are in the file, in the file's order.
    pub fn slices(&self) -> &[usize] {
        &self.slices
    }

    /// Returns the number of channels of a token, C.
    pub fn width(&self) -> usize {
        self.shape[2]
    }

    /// Returns the patch grid of an image.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Returns height and width of the model's input images, in pixels.
    pub fn image(&self) -> (usize, usize) {
        self.image
    }

    /// Returns the side of a patch in pixels of those input images.
    pub fn patch_size(&self) -> usize {
        self.patch_size
    }

    /// Returns the requested size, or the images' own size if the file does not state it.
    pub fn size(&self) -> Size {
        let (height, width) = self.image;
        self.preprocessing("size").unwrap_or(Size::Exact { height, width })
    }

    /// Returns the orientation of the scan's slices, or `None` if the input was no scan.
    pub fn orient(&self) -> Option<Orient> {
        self.preprocessing("orient")
    }

    fn preprocessing<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let preprocessing: Value = serde_json::from_str(self.metadata().get("preprocessing")?).ok()?;
        preprocessing.get(name)?.as_str()?.parse().ok()
    }

    /// Returns height and width of a patch in mm, if the file states the positions of patches.
    pub fn patch_mm(&self) -> Option<(f64, f64)> {
        let vectors = |name: &str| -> Option<Vec<Vec<f64>>> { serde_json::from_str(self.metadata().get(name)?).ok() };
        let steps = match vectors("patch_affine") {
            Some(rows) if rows.len() == 4 && rows.iter().all(|row| row.len() == 4) => {
                [0, 1].map(|axis| rows[..3].iter().map(|row| row[axis]).collect::<Vec<_>>())
            }
            Some(_) => return None,
            None => vectors("patch_steps")?.try_into().ok()?,
        };
        let [width, height] = steps.map(|step| step.iter().map(|v| v * v).sum::<f64>().sqrt());
        let is_length = |v: f64| v.is_finite() && v > 0.0;
        (is_length(height) && is_length(width)).then_some((height, width))
    }

    /// Returns `count` patch tokens [count, C], starting at token `first` of all images' tokens.
    ///
    /// # Errors
    /// As [`StoredFeatures::patches`].
    ///
    /// # Panics
    /// If there are no such tokens.
    pub fn tokens(&self, first: usize, count: usize) -> Result<Vec<f32>> {
        let [_, patches, c] = self.shape;
        let fail = |problem: Problem| Error::input(&self.name, problem.within(PATCHES));
        let values = self.archive.read_part(PATCHES, first * c, count * c).map_err(fail)?;
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let slice = self.slices[(first + at / c) / patches];
                Err(fail(format!("slice {slice} holds values that are NaN or infinite").into()))
            }
        }
    }

    /// Returns the patch tokens of the image at `position` in the file: [P, C].
    ///
    /// # Errors
    /// If the file cannot be read, or a value is NaN or infinite.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn patches(&self, position: usize) -> Result<Tensor> {
        let [s, p, c] = self.shape;
        assert!(position < s, "image {position} of {s}");
        let fail = |problem: Problem| Error::input(&self.name, problem.within(PATCHES));
        let values = self.archive.read_part(PATCHES, position * p * c, p * c).map_err(fail)?;
        match values.iter().filter(|v| !v.is_finite()).count() {
            0 => Ok(Tensor::new([p, c], values)),
            n => Err(fail(format!("slice {} holds {n} values that are NaN or infinite", self.slices[position]).into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{ArchiveWriter, Dtype, TensorHeader};

    /// Writes and opens a file of two slices of 2 x 3 patches of 16 pixels with 2 channels. `change` edits the metadata
    /// and values first.
    fn open(shape: &[usize], dtype: Dtype, change: impl FnOnce(&mut BTreeMap<String, String>, &mut Vec<f32>)) -> Result<StoredFeatures> {
        let texts = [
            ("slices", "[3, 1]"),
            ("grid", "[2, 3]"),
            ("image", "[40, 48]"),
            ("patch_size", "16"),
            ("preprocessing", "{\"size\": \"40x48\", \"orient\": \"stored\"}"),
            ("patch_affine", "[[0.0, 0.0, 1.0, 0.0], [8.0, 0.0, 0.0, 0.0], [0.0, -32.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]"),
        ];
        let mut metadata = texts.map(|(name, text)| (name.to_string(), text.to_string())).into();
        let mut values = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        change(&mut metadata, &mut values);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        let stored = (PATCHES.to_string(), TensorHeader { shape: shape.to_vec(), dtype });
        let mut file = ArchiveWriter::create(&path, &[stored], &metadata).expect("created");
        file.write(0, 0, &values).expect("written");
        file.finish().expect("named");
        StoredFeatures::open(&path)
    }

    #[test]
    fn tokens_and_what_is_said_of_them_are_read() {
        for dtype in [Dtype::F32, Dtype::F16] {
            let file = open(&[2, 6, 2], dtype, |_, _| {}).expect("features");
            assert_eq!((file.slices(), file.width(), file.patch_size(), file.image()), (&[3, 1][..], 2, 16, (40, 48)));
            assert_eq!(
                (file.grid(), file.size(), file.orient()),
                (Grid { rows: 2, cols: 3 }, Size::Exact { height: 40, width: 48 }, Some(Orient::Stored))
            );
            assert_eq!(file.patch_mm(), Some((32.0, 8.0)));
            let second: Vec<f32> = (12..24_u8).map(f32::from).collect();
            assert_eq!(file.patches(1).expect("read"), Tensor::new([6, 2], second));
        }
        let steps = |metadata: &mut BTreeMap<String, String>, text: &str| {
            metadata.remove("patch_affine");
            metadata.insert("patch_steps".into(), text.into());
        };
        let listed = open(&[2, 6, 2], Dtype::F32, |metadata, _| steps(metadata, "[[3.0, 4.0, 0.0], [0.0, 0.0, 7.0]]")).expect("features");
        assert_eq!(listed.patch_mm(), Some((7.0, 5.0)));
        let flat = open(&[2, 6, 2], Dtype::F32, |metadata, _| steps(metadata, "[[0.0, 0.0, 0.0], [0.0, 0.0, 7.0]]")).expect("features");
        assert_eq!(flat.patch_mm(), None);
        let broken = open(&[2, 6, 2], Dtype::F32, |_, values| values[13] = f32::NAN).expect("features");
        assert!(broken.patches(0).is_ok());
        let error = broken.patches(1).expect_err("NaN").to_string();
        assert!(error.contains("slice 1 holds 1 values that are NaN"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases: [(&[usize], &str, &str, &str); 12] = [
            (&[6, 2], "", "", "expected [S, P, C], found [6, 2]"),
            (&[2, 6, 0], "", "", "expected [S, P, C], found [2, 6, 0]"),
            (&[3, 6, 2], "", "", "is [3, 6, 2], but its metadata say 2 slices of 2 x 3 patches"),
            (&[2, 5, 2], "", "", "is [2, 5, 2], but"),
            (&[2, 6, 2], "slices", "[3]", "say 1 slices"),
            (&[2, 6, 2], "slices", "[0, 18446744073709551615]", "name slice 18446744073709551615"),
            (&[2, 6, 2], "slices", "[0, -1]", "slices is [0,-1]"),
            (&[2, 6, 2], "grid", "[3, 2]", "say 3 x 2 patches of 16 pixels in an image of 40 x 48"),
            (&[2, 6, 2], "patch_size", "0", "patches of 0 pixels"),
            (&[2, 6, 2], "image", "[40]", "image [40]"),
            (&[2, 6, 2], "image", "[40, 1e30]", "image is [40,1e+30]; expected whole numbers"),
            (&[2, 6, 2], "grid", "2 x 3", "say that grid is 2 x 3"),
        ];
        for (shape, name, text, problem) in cases {
            let put = |metadata: &mut BTreeMap<String, String>, _: &mut Vec<f32>| drop(metadata.insert(name.into(), text.into()));
            let error = open(shape, Dtype::F32, put).expect_err("refused").to_string();
            assert!(error.contains(problem), "{shape:?} {name} {text}: {error}");
        }
        let error = open(&[2, 6, 2], Dtype::F32, |metadata, _| drop(metadata.remove("grid"))).expect_err("refused").to_string();
        assert!(error.contains("its metadata have no grid"), "{error}");
        let error = StoredFeatures::open("x.npz").expect_err("refused").to_string();
        assert!(cfg!(not(feature = "readers")) || error.contains("write them with `format` safetensors"), "{error}");
    }
}
