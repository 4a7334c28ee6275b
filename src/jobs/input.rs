//! The input of a job: a scan, or images that are already normalised, from a file or from memory.

use std::path::Path;

use super::case::Case;
use super::observer::Observer;
use crate::archive::sha256;
use crate::ct::{Images, Orient, Size, Volume, Window, prepare, resize, resized};
use crate::error::{Error, Result};
use crate::output::{ImagePlace, Preprocessing};
use crate::tensor::Tensor;

/// The preprocessing from a scan to images.
#[derive(Clone, Debug)]
pub struct View {
    /// The size of the images.
    pub size: Size,
    /// The normalisation of HU.
    pub window: Window,
    /// The orientation of the slices.
    pub orient: Orient,
}

impl View {
    /// Returns the preprocessing of the authors' demo, with images of `size`.
    pub fn demo(size: Size) -> Self {
        Self { size, window: Window::DEMO, orient: Orient::Lps }
    }
}

/// An open input and its preprocessing.
#[derive(Debug)]
pub struct Input {
    content: Content,
    origin: Origin,
    view: View,
}

#[derive(Debug)]
enum Content {
    /// A scan in HU.
    Scan(Box<Volume>),
    /// Normalised images in a file.
    Images(Box<Images>),
    /// Normalised images in memory, [B, C, H, W].
    Given(Tensor),
}

/// The source of an input, which also identifies its content.
#[derive(Debug)]
enum Origin {
    /// A file or a folder. The hash of its files identifies the content.
    Case(Case),
    /// Memory. The hash of its values identifies the content, once the hash is computed.
    Memory { name: String, values_sha256: Option<String> },
}

impl Input {
    /// Opens the word `phantom`, a `.safetensors` of images, or a scan. `observer` receives the reader's warnings.
    ///
    /// # Errors
    /// If the input cannot be read or is not a scan.
    pub fn open(case: &Case, view: View, observer: &dyn Observer) -> Result<Self> {
        let path = &case.input;
        let is_safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        let content = match () {
            () if case.is_phantom() => Content::Scan(Box::new(Volume::phantom())),
            () if is_safetensors => Content::Images(Box::new(Images::open(path)?)),
            () => Content::Scan(Box::new(Volume::open_series(path, case.series.as_deref())?.oriented(view.orient)?)),
        };
        Ok(Self::of_case(content, case, view, observer))
    }

    /// Creates an input from the scan of `case` that is open already.
    ///
    /// # Errors
    /// If the scan cannot be turned as `view` says.
    pub(super) fn from_scan(scan: Volume, case: &Case, view: View, observer: &dyn Observer) -> Result<Self> {
        Ok(Self::of_case(Content::Scan(Box::new(scan.oriented(view.orient)?)), case, view, observer))
    }

    fn of_case(content: Content, case: &Case, view: View, observer: &dyn Observer) -> Self {
        let input = Self { content, origin: Origin::Case(case.clone()), view };
        input.warnings().iter().for_each(|warning| observer.warn(&format!("{}: {warning}", case.input.display())));
        input
    }

    /// Creates an input from the scan `volume`, with the volume's name. In the metadata of its features, a hash of the
    /// values and the affine replaces the hash of the file, so that no job resumes the file of another volume.
    ///
    /// # Errors
    /// As [`Volume::oriented`].
    pub fn from_volume(volume: Volume, view: View) -> Result<Self> {
        let name = volume.name().to_string();
        let content = Content::Scan(Box::new(volume.oriented(view.orient)?));
        Ok(Self { content, origin: Origin::Memory { name, values_sha256: None }, view })
    }

    /// Creates an input from normalised images [B, C, H, W], which are resized to `size`. Errors and metadata name them
    /// `name`. A hash of the values identifies them, as for [`Input::from_volume`].
    ///
    /// # Errors
    /// If `images` does not have four axes, is empty, or holds a value that is NaN or infinite.
    pub fn from_images(name: impl Into<String>, images: Tensor, size: Size) -> Result<Self> {
        let name = name.into();
        if images.shape().len() != 4 || images.shape().contains(&0) {
            return Err(Error::input(name, format!("expected images [B, C, H, W], found {:?}", images.shape())));
        }
        if !images.is_finite() {
            return Err(Error::input(name, "the images hold NaN or infinite values"));
        }
        Ok(Self { content: Content::Given(images), origin: Origin::Memory { name, values_sha256: None }, view: View::demo(size) })
    }

    /// Returns the name of the input, for metadata.
    pub fn name(&self) -> String {
        match &self.origin {
            Origin::Case(case) => case.text(),
            Origin::Memory { name, .. } => name.clone(),
        }
    }

    /// Returns the file or folder of the input; none if it came from memory.
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Case(case) => Some(&case.input),
            Origin::Memory { .. } => None,
        }
    }

    /// Returns the hash of the input's content: [`Case::sha256`], or for an input from memory the SHA-256 of its values
    /// and affine.
    ///
    /// # Errors
    /// If the input cannot be read.
    pub fn sha256(&mut self) -> Result<Option<String>> {
        match &self.origin {
            Origin::Case(case) => case.sha256(),
            Origin::Memory { values_sha256: Some(hash), .. } => Ok(Some(hash.clone())),
            Origin::Memory { name, .. } => {
                let (name, hash) = (name.clone(), Some(self.hash_values()?));
                self.origin = Origin::Memory { name, values_sha256: hash.clone() };
                Ok(hash)
            }
        }
    }

    /// Returns the SHA-256 of a line with the kind, shape and affine of the values, followed by the hash of each slice.
    fn hash_values(&mut self) -> Result<String> {
        let shape = self.slices();
        let mut text = match &self.content {
            Content::Scan(scan) => format!("HU {shape:?} {:?}\n", scan.affine().map(ToString::to_string)),
            Content::Images(_) | Content::Given(_) => format!("images {shape:?}\n"),
        };
        for index in 0..shape[0] {
            let values = match &mut self.content {
                Content::Scan(scan) => scan.read_slice(index)?,
                Content::Images(images) => images.read(index)?,
                Content::Given(images) => part(images, index),
            };
            text += &sha256(&values.data().iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        }
        Ok(sha256(text.as_bytes()))
    }

    /// Returns the reader's warnings, one sentence each.
    pub fn warnings(&self) -> &[String] {
        if let Content::Scan(scan) = &self.content { scan.warnings() } else { &[] }
    }

    /// Returns the number and shape of the images that the model sees, [S, C, H, W].
    pub fn shape(&self) -> [usize; 4] {
        let [s, c, h, w] = self.slices();
        let (h, w) = self.view.size.of(h, w);
        [s, c, h, w]
    }

    /// Returns the shape [S, C, H, W] before resizing.
    pub fn slices(&self) -> [usize; 4] {
        match &self.content {
            Content::Scan(scan) => [scan.slices(), 1, scan.height(), scan.width()],
            Content::Images(images) => images.shape(),
            Content::Given(images) => images.shape().try_into().expect("[B, C, H, W]"),
        }
    }

    /// Returns slice `index` for display, [H, W]: in HU, or the first channel of a normalised image.
    ///
    /// # Errors
    /// If the slice cannot be read.
    pub fn slice(&mut self, index: usize) -> Result<Tensor> {
        let [_, _, h, w] = self.slices();
        let image = match &mut self.content {
            Content::Scan(scan) => return scan.read_slice(index),
            Content::Images(images) => images.read(index)?,
            Content::Given(images) => part(images, index),
        };
        Ok(Tensor::new([h, w], image.data()[..h * w].to_vec()))
    }

    /// Returns image `index`, normalised, [1, C, H, W].
    fn image(&mut self, index: usize) -> Result<Tensor> {
        let [_, _, h, w] = self.shape();
        match &mut self.content {
            Content::Scan(scan) => Ok(prepare(&scan.read_slice(index)?, &self.view.window, self.view.size)),
            Content::Images(images) => Ok(resized(images.read(index)?, h, w)),
            Content::Given(images) => Ok(resize(&part(images, index), h, w)),
        }
    }

    /// Returns several images, normalised, [B, C, H, W].
    ///
    /// # Errors
    /// If a slice cannot be read.
    pub fn batch(&mut self, indices: impl IntoIterator<Item = usize, IntoIter: ExactSizeIterator>) -> Result<Tensor> {
        let [_, c, h, w] = self.shape();
        let indices = indices.into_iter();
        let mut values: Vec<f32> = Vec::with_capacity(indices.len() * c * h * w);
        let mut last = None;
        for index in indices {
            // A slice that comes several times in a row is read and prepared once.
            if last.replace(index) == Some(index) {
                values.extend_from_within(values.len() - c * h * w..);
            } else {
                values.extend_from_slice(self.image(index)?.data());
            }
        }
        Ok(Tensor::new([values.len() / (c * h * w), c, h, w], values))
    }

    /// Returns the preprocessing from the input's values to the images' values.
    pub fn preprocessing(&self) -> Preprocessing {
        let View { size, window, orient } = self.view;
        match self.content {
            Content::Scan(_) => Preprocessing::Scan { window, size, orient },
            Content::Images(_) | Content::Given(_) => Preprocessing::Done { size },
        }
    }

    /// Returns the height and width of a slice's pixel in mm; (1, 1) if the scan has no affine.
    pub fn pixel(&self) -> (f64, f64) {
        let Content::Scan(scan) = &self.content else { return (1.0, 1.0) };
        scan.affine().map_or((1.0, 1.0), |affine| {
            let [column, row, _] = affine.spacing();
            (row, column)
        })
    }

    /// Returns the format and other facts about the scan, as (name, text).
    pub fn about(&self) -> &[(&'static str, String)] {
        if let Content::Scan(scan) = &self.content { scan.about() } else { &[] }
    }

    /// Returns the positions of the patches of `slices` in patient space; none if the input has no affine.
    pub fn place(&self, slices: &[usize], patch_size: usize) -> Option<ImagePlace> {
        let Content::Scan(scan) = &self.content else { return None };
        let [_, _, height, width] = self.shape();
        scan.affine().map(|&affine| ImagePlace {
            affine,
            slice: (scan.height(), scan.width()),
            image: (height, width),
            patch_size,
            slices: slices.to_vec(),
        })
    }
}

/// Returns image `index` [1, C, H, W] of images [B, C, H, W].
fn part(images: &Tensor, index: usize) -> Tensor {
    let &[_, c, h, w] = images.shape() else { unreachable!("[B, C, H, W]") };
    Tensor::new([1, c, h, w], images.data()[index * c * h * w..][..c * h * w].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(hu: &Tensor, view: &View) -> Input {
        Input::from_volume(Volume::from_hu("made", hu.clone()).expect("a volume"), view.clone()).expect("an input")
    }

    #[test]
    fn the_hash_of_an_input_from_memory_covers_values_and_shape() {
        let view = View::demo(Size::Native);
        let hu = Tensor::new([2, 2, 3], (0..12).map(|i| i as f32).collect());
        let hash_of_hu = |hu: &Tensor| volume(hu, &view).sha256().expect("read").expect("a hash");
        assert_eq!(hash_of_hu(&hu), hash_of_hu(&hu));
        let mut other = hu.clone();
        other.data_mut()[11] += 1e-5;
        for other in [other, hu.clone().reshaped([2, 3, 2]), hu.clone().reshaped([1, 4, 3])] {
            assert_ne!(hash_of_hu(&other), hash_of_hu(&hu), "{other:?}");
        }
        let images = |shape: [usize; 4]| Input::from_images("made", hu.clone().reshaped(shape), Size::Native).expect("images");
        let hash = |mut input: Input| input.sha256().expect("read").expect("a hash");
        assert_ne!(hash(images([2, 1, 2, 3])), hash(images([1, 2, 2, 3])));
        assert_ne!(hash(images([2, 1, 2, 3])), hash_of_hu(&hu), "HU are not images");
    }

    #[test]
    fn images_from_memory_are_checked_and_not_normalised() {
        let images = Tensor::new([2, 1, 16, 16], (0..512).map(|i| i as f32).collect());
        let mut input = Input::from_images("made", images.clone(), Size::Native).expect("images");
        assert_eq!(input.shape(), [2, 1, 16, 16]);
        assert_eq!(input.batch([0, 1]).expect("read"), images);
        assert_eq!(input.slice(1).expect("read").data(), &images.data()[256..]);
        for (wrong, problem) in [
            (Tensor::zeros([1, 16, 16]), "expected images [B, C, H, W], found [1, 16, 16]"),
            (Tensor::new([1, 1, 1, 1], vec![f32::NAN]), "NaN or infinite"),
        ] {
            let error = Input::from_images("made", wrong, Size::Native).expect_err("refused").to_string();
            assert!(error.starts_with("input made: ") && error.contains(problem), "{error}");
        }
    }
}
