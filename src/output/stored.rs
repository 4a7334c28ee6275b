//! Reads the patch tokens of a file that [`super::FeatureFile`] wrote, image by image.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::format::Format;
use super::tensors::Output;
use crate::archive::Archive;
use crate::ct::{MAX_SLICES, Orient, Size};
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;
use crate::vit::config::{Grid, MAX_SIDE};
use crate::vit::layers::Layers;

/// An open `.safetensors` feature file with patch tokens. Its metadata are checked against its tensors. The tokens are
/// those of one or several blocks, joined channel by channel.
#[derive(Debug)]
pub struct StoredFeatures {
    name: String,
    archive: Archive,
    layers: Layers,
    /// Names of the tensors that are joined.
    parts: Vec<String>,
    /// Shape of each part, [S, T, C]. The last tokens of each image are those of its patches.
    shape: [usize; 3],
    slices: Vec<usize>,
    grid: Grid,
    image: (usize, usize),
    patch_size: usize,
}

impl StoredFeatures {
    /// Opens `path`, for the patch tokens after the last block, without reading them.
    ///
    /// # Errors
    /// As [`StoredFeatures::open_layers`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_layers(path, &Layers::LAST)
    }

    /// Opens `path`, for the patch tokens of `layers`, without reading them.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, lacks the patch tokens of a block, or does not describe their layout.
    pub fn open_layers(path: impl AsRef<Path>, layers: &Layers) -> Result<Self> {
        let path = path.as_ref();
        Self::checked(path, layers).map_err(|problem| Error::input(path.display(), problem))
    }

    fn checked(path: &Path, layers: &Layers) -> Result<Self, Problem> {
        if let Some(format) = Format::of(path).filter(|&format| format != Format::Safetensors) {
            return Err(format!("a .{format}; features are read from .safetensors alone: write them with `format` safetensors").into());
        }
        let archive = Archive::open(path)?;
        let outputs = Output::of_layers(layers);
        let shapes = outputs.iter().map(|output| shape_of(&archive, *output, layers)).collect::<Result<Vec<_>, _>>()?;
        let shape = shapes[0];
        if let Some((output, other)) = outputs.iter().zip(&shapes).find(|(_, other)| **other != shape) {
            return Err(format!("{output} is {other:?}, but {} is {shape:?}", outputs[0]).into());
        }
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
        // A block's tokens begin with others than those of patches.
        let has_patches = if layers.blocks().is_empty() { shape[1] == rows * cols } else { shape[1] > rows * cols };
        if slices.len() != shape[0] || !has_patches {
            let (name, images) = (outputs[0], slices.len());
            return Err(format!("{name} is {shape:?}, but its metadata say {images} slices of {rows} x {cols} patches").into());
        }
        if let Some(slice) = slices.iter().find(|&&slice| slice > MAX_SLICES) {
            return Err(format!("its metadata name slice {slice}, which no scan has").into());
        }
        let name = path.display().to_string();
        let (layers, parts) = (layers.clone(), outputs.iter().map(ToString::to_string).collect());
        Ok(Self { name, archive, layers, parts, shape, slices, grid: Grid { rows, cols }, image: (height, width), patch_size })
    }

    /// Returns the metadata, see [`super::Provenance::metadata`].
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.archive.metadata()
    }

    /// Returns the scan's slices that are in the file, in the file's order.
    pub fn slices(&self) -> &[usize] {
        &self.slices
    }

    /// Returns the blocks whose tokens are joined.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Returns the number of channels of a joined token, L C.
    pub fn width(&self) -> usize {
        self.parts.len() * self.shape[2]
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

    /// Returns `count` patch tokens [count, L C], starting at token `first` of all images' patch tokens.
    ///
    /// # Errors
    /// As [`StoredFeatures::patches`].
    ///
    /// # Panics
    /// If there are no such tokens.
    pub fn tokens(&self, first: usize, count: usize) -> Result<Vec<f32>> {
        let (patches, c, width, end) = (self.grid.patches(), self.shape[2], self.width(), first + count);
        let mut joined = vec![0.0; count * width];
        let mut at = first;
        while at < end {
            let (position, patch) = (at / patches, at % patches);
            let run = (patches - patch).min(end - at);
            let rows = &mut joined[(at - first) * width..][..run * width];
            for (i, part) in self.parts.iter().enumerate() {
                let found = self.read(part, position, patch, run)?;
                let places = rows.chunks_exact_mut(width).map(|row| &mut row[i * c..][..c]);
                places.zip(found.chunks_exact(c)).for_each(|(place, token)| place.copy_from_slice(token));
            }
            at += run;
        }
        Ok(joined)
    }

    /// Returns the patch tokens of the image at `position` in the file: [P, L C].
    ///
    /// # Errors
    /// If the file cannot be read, or a value is NaN or infinite.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn patches(&self, position: usize) -> Result<Tensor> {
        let patches = self.grid.patches();
        Ok(Tensor::new([patches, self.width()], self.tokens(position * patches, patches)?))
    }

    /// Reads `count` patch tokens [count, C] of one part from patch `first` on, of the image at `position`.
    fn read(&self, part: &str, position: usize, first: usize, count: usize) -> Result<Vec<f32>> {
        let fail = |problem: Problem| Error::input(&self.name, problem.within(part));
        let [_, tokens, c] = self.shape;
        let start = position * tokens + tokens - self.grid.patches() + first;
        let values = self.archive.read_part(part, start * c, count * c).map_err(fail)?;
        match values.iter().filter(|v| !v.is_finite()).count() {
            0 => Ok(values),
            n => Err(fail(format!("slice {} holds {n} values that are NaN or infinite", self.slices[position]).into())),
        }
    }
}

/// Returns the shape [S, T, C] of the tensor `output` in `archive`, which is read for the tokens of `layers`.
fn shape_of(archive: &Archive, output: Output, layers: &Layers) -> Result<[usize; 3], Problem> {
    let (axes, option) = match output {
        Output::Patch => ("[S, P, C]", "`tokens` patch".to_owned()),
        _ => ("[S, T, C]", format!("`layers` {layers}")),
    };
    let stored = archive.tensors().get(&output.to_string());
    let stored =
        stored.ok_or_else(|| format!("holds no {output}; expected a .safetensors that `meddino features` wrote, with {option}"))?;
    if stored.dtype.size().is_none() {
        return Err(format!("{output}: expected floats, found {}", stored.dtype).into());
    }
    let shape = <[usize; 3]>::try_from(&stored.shape[..]).ok().filter(|shape| shape.iter().all(|&n| n > 0));
    Ok(shape.ok_or_else(|| format!("{output}: expected {axes}, found {:?}", stored.shape))?)
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
        let stored = (Output::Patch.to_string(), TensorHeader { shape: shape.to_vec(), dtype });
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

    /// Opens the tokens of `layers` in a file of one slice of 1 x 2 patches, which has these tensors of 2 channels. Values
    /// count up from the tensor's number times 100.
    fn open_layers(tensors: &[(&str, usize)], layers: &str) -> Result<StoredFeatures> {
        let texts = [("slices", "[4]"), ("grid", "[1, 2]"), ("image", "[16, 32]"), ("patch_size", "16")];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        let stored: Vec<_> = tensors
            .iter()
            .map(|(name, tokens)| (name.to_string(), TensorHeader { shape: vec![1, *tokens, 2], dtype: Dtype::F32 }))
            .collect();
        let metadata = texts.map(|(name, text)| (name.to_string(), text.to_string())).into();
        let mut file = ArchiveWriter::create(&path, &stored, &metadata).expect("created");
        for (i, (_, tokens)) in tensors.iter().enumerate() {
            file.write(i, 0, &(0..2 * tokens).map(|value| (100 * i + value) as f32).collect::<Vec<_>>()).expect("written");
        }
        file.finish().expect("named");
        StoredFeatures::open_layers(&path, &layers.parse().expect("layers"))
    }

    #[test]
    fn tokens_of_several_blocks_are_joined() {
        // A class token and a register come before the patches.
        let tensors = [("x_norm_patchtokens", 2), ("layers.2", 4), ("layers.5", 4), ("layers.7", 2), ("layers.8", 5)];
        let file = open_layers(&tensors, "2,5").expect("features");
        assert_eq!((file.width(), file.grid().patches(), file.layers().count()), (4, 2, 2));
        assert_eq!(file.patches(0).expect("read"), Tensor::new([2, 4], vec![104., 105., 204., 205., 106., 107., 206., 207.]));
        assert_eq!(file.tokens(1, 1).expect("read"), [106., 107., 206., 207.]);
        assert_eq!(open_layers(&tensors, "5").expect("features").tokens(0, 2).expect("read"), [204., 205., 206., 207.]);
        assert_eq!(open_layers(&tensors, "").expect("features").tokens(0, 2).expect("read"), [0., 1., 2., 3.]);
        for (layers, problem) in [
            ("2,3", "holds no layers.3; expected a .safetensors that `meddino features` wrote, with `layers` 2,3"),
            ("2,8", "layers.8 is [1, 5, 2], but layers.2 is [1, 4, 2]"),
            ("7", "layers.7 is [1, 2, 2], but its metadata say 1 slices of 1 x 2 patches"),
        ] {
            let error = open_layers(&tensors, layers).expect_err("refused").to_string();
            assert!(error.contains(problem), "{layers}: {error}");
        }
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
