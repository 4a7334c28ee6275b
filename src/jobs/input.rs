//! What a job looks at: the slices of a scan, or images that are normalised already, from a file or from memory.

use std::path::Path;

use super::case::Case;
use super::observer::Observer;
use crate::archive::sha256;
use crate::ct::{Images, Orient, Size, Volume, Window, prepare, resize};
use crate::error::{Error, Result};
use crate::output::{Place, Preprocessing};
use crate::tensor::Tensor;

/// How a scan becomes images.
#[derive(Clone, Debug)]
pub struct View {
    /// The size of the images.
    pub size: Size,
    /// From HU to the images' values.
    pub window: Window,
    /// How the slices lie.
    pub orient: Orient,
}

impl View {
    /// As the authors' demo looks at a scan, at `size`.
    pub fn demo(size: Size) -> Self {
        Self { size, window: Window::DEMO, orient: Orient::Lps }
    }
}

/// An open input, and how a job looks at it.
#[derive(Debug)]
pub struct Input {
    content: Content,
    origin: Origin,
    view: View,
}

#[derive(Debug)]
enum Content {
    /// HU, to be normalised.
    Scan(Box<Volume>),
    /// Taken as they are.
    Images(Images),
    /// The same from memory: [B, C, H, W].
    Given(Tensor),
}

/// Where an input comes from, and how it is known again.
#[derive(Debug)]
enum Origin {
    /// By the files that it is read from.
    Case(Case),
    /// By its values, once that was asked for.
    Memory { name: String, known_by: Option<String> },
}

impl Input {
    /// Opens the word `phantom`, a `.safetensors` of images, or a scan. `observer` hears the reader's warnings.
    ///
    /// # Errors
    /// If the input cannot be read, or is no scan.
    pub fn open(case: &Case, view: View, observer: &dyn Observer) -> Result<Self> {
        let path = &case.input;
        let is_safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        let content = match () {
            () if case.is_phantom() => Content::Scan(Box::new(Volume::phantom())),
            () if is_safetensors => Content::Images(Images::open(path)?),
            () => Content::Scan(Box::new(Volume::open_series(path, case.series.as_deref())?.oriented(view.orient)?)),
        };
        let input = Self { content, origin: Origin::Case(case.clone()), view };
        input.warnings().iter().for_each(|warning| observer.warn(&format!("{}: {warning}", path.display())));
        Ok(input)
    }

    /// The scan `volume`, which a guest has made or opened, under the volume's name. Features of it are known by its values: their metadata
    /// holds a hash of the values and of where they lie in place of a file's hash, and no job goes on with another volume's file.
    ///
    /// # Errors
    /// As [`Volume::oriented`].
    pub fn from_volume(volume: Volume, view: View) -> Result<Self> {
        let name = volume.name().to_string();
        let content = Content::Scan(Box::new(volume.oriented(view.orient)?));
        Ok(Self { content, origin: Origin::Memory { name, known_by: None }, view })
    }

    /// The images [B, C, H, W], normalised already, which are resized to `size`. Errors and metadata call them `name`. They are known by their
    /// values, as [`Input::from_volume`] says.
    ///
    /// # Errors
    /// If there are no four axes, no image, or a value is NaN or infinite.
    pub fn from_images(name: impl Into<String>, images: Tensor, size: Size) -> Result<Self> {
        let name = name.into();
        if images.shape().len() != 4 || images.shape().contains(&0) {
            return Err(Error::input(name, format!("expected images [B, C, H, W], found {:?}", images.shape())));
        }
        if !images.is_finite() {
            return Err(Error::input(name, "the images hold values that are NaN or infinite"));
        }
        Ok(Self { content: Content::Given(images), origin: Origin::Memory { name, known_by: None }, view: View::demo(size) })
    }

    /// The input as it was named, for metadata.
    pub fn name(&self) -> String {
        match &self.origin {
            Origin::Case(case) => case.text(),
            Origin::Memory { name, .. } => name.clone(),
        }
    }

    /// The file or folder that the input is read from; none if it came from memory.
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Case(case) => Some(&case.input),
            Origin::Memory { .. } => None,
        }
    }

    /// What the input's content is known by: [`Case::sha256`], or for an input from memory the SHA-256 of its values and of where they lie.
    ///
    /// # Errors
    /// If the input cannot be read.
    pub fn sha256(&mut self) -> Result<Option<String>> {
        match &self.origin {
            Origin::Case(case) => case.sha256(),
            Origin::Memory { known_by: Some(known), .. } => Ok(Some(known.clone())),
            Origin::Memory { name, .. } => {
                let (name, found) = (name.clone(), Some(self.values_sha256()?));
                self.origin = Origin::Memory { name, known_by: found.clone() };
                Ok(found)
            }
        }
    }

    /// The SHA-256 of a line that says what the values are, and of the hash of each slice's values. The first number of the shape says how
    /// many there are.
    fn values_sha256(&mut self) -> Result<String> {
        let shape = self.slices();
        let mut all = match &self.content {
            Content::Scan(scan) => format!("HU {shape:?} {:?}\n", scan.affine().map(ToString::to_string)),
            Content::Images(_) | Content::Given(_) => format!("images {shape:?}\n"),
        };
        for index in 0..shape[0] {
            let values = match &mut self.content {
                Content::Scan(scan) => scan.read_slice(index)?,
                Content::Images(images) => images.read(index)?,
                Content::Given(images) => part(images, index),
            };
            all += &sha256(&values.data().iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        }
        Ok(sha256(all.as_bytes()))
    }

    /// What may make the results other than expected, a sentence each.
    pub fn warnings(&self) -> &[String] {
        if let Content::Scan(scan) = &self.content { scan.warnings() } else { &[] }
    }

    /// [S, C, H, W]: how many images it gives, and of what shape.
    pub fn shape(&self) -> [usize; 4] {
        let [s, c, h, w] = self.slices();
        let (h, w) = self.view.size.of(h, w);
        [s, c, h, w]
    }

    /// [S, C, H, W] before anything is resized.
    pub fn slices(&self) -> [usize; 4] {
        match &self.content {
            Content::Scan(scan) => [scan.slices(), 1, scan.height(), scan.width()],
            Content::Images(images) => images.shape(),
            Content::Given(images) => images.shape().try_into().expect("[B, C, H, W]"),
        }
    }

    /// Slice `index` as people look at it, [H, W]: in HU, or the first channel of an image that is normalised already.
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

    /// Image `index`: [1, C, H, W], normalised.
    fn image(&mut self, index: usize) -> Result<Tensor> {
        let [_, _, h, w] = self.shape();
        match &mut self.content {
            Content::Scan(scan) => Ok(prepare(&scan.read_slice(index)?, &self.view.window, self.view.size)),
            Content::Images(images) => Ok(resize(&images.read(index)?, h, w)),
            Content::Given(images) => Ok(resize(&part(images, index), h, w)),
        }
    }

    /// Several images: [B, C, H, W], normalised.
    ///
    /// # Errors
    /// If a slice cannot be read.
    pub fn batch(&mut self, indices: impl IntoIterator<Item = usize>) -> Result<Tensor> {
        let [_, c, h, w] = self.shape();
        let mut values = Vec::new();
        for index in indices {
            values.extend_from_slice(self.image(index)?.data());
        }
        Ok(Tensor::new([values.len() / (c * h * w), c, h, w], values))
    }

    /// How the input's values become the images'.
    pub fn preprocessing(&self) -> Preprocessing {
        let View { size, window, orient } = self.view;
        match self.content {
            Content::Scan(_) => Preprocessing::Scan { window, size, orient },
            Content::Images(_) | Content::Given(_) => Preprocessing::Done { size },
        }
    }

    /// Height and width of a pixel of a slice: in mm if the scan says so, else 1 and 1.
    pub fn pixel(&self) -> (f64, f64) {
        let Content::Scan(scan) = &self.content else { return (1.0, 1.0) };
        scan.affine().map_or((1.0, 1.0), |affine| {
            let [column, row, _] = affine.spacing();
            (row, column)
        })
    }

    /// The format and what else identifies a scan, as (name, text).
    pub fn about(&self) -> &[(&'static str, String)] {
        if let Content::Scan(scan) = &self.content { scan.about() } else { &[] }
    }

    /// Where the patches of `slices` lie, if the input says so.
    pub fn place(&self, slices: &[usize], patch_size: usize) -> Option<Place> {
        let Content::Scan(scan) = &self.content else { return None };
        let [_, _, height, width] = self.shape();
        scan.affine().map(|&affine| Place {
            affine,
            slice: (scan.height(), scan.width()),
            image: (height, width),
            patch_size,
            slices: slices.to_vec(),
        })
    }
}

/// Image `index` of images [B, C, H, W]: [1, C, H, W].
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
    fn an_input_from_memory_is_known_by_its_values_and_its_shape() {
        let view = View::demo(Size::Native);
        let hu = Tensor::new([2, 2, 3], (0..12).map(|i| i as f32).collect());
        let of = |hu: &Tensor| volume(hu, &view).sha256().expect("read").expect("known");
        assert_eq!(of(&hu), of(&hu));
        let mut other = hu.clone();
        other.data_mut()[11] += 1e-5;
        for other in [other, hu.clone().reshaped([2, 3, 2]), hu.clone().reshaped([1, 4, 3])] {
            assert_ne!(of(&other), of(&hu), "{other:?}");
        }
        let images = |shape: [usize; 4]| Input::from_images("made", hu.clone().reshaped(shape), Size::Native).expect("images");
        let known = |mut input: Input| input.sha256().expect("read").expect("known");
        assert_ne!(known(images([2, 1, 2, 3])), known(images([1, 2, 2, 3])));
        assert_ne!(known(images([2, 1, 2, 3])), of(&hu), "HU are not images");
    }

    #[test]
    fn images_from_memory_are_checked_and_taken_as_they_are() {
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
