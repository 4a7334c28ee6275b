//! What the features are computed of: the slices of a scan, or images that are normalised already.

use meddino::ct::{Images, Orient, Size, Volume, Window, prepare, resize};
use meddino::output::{Place, Preprocessing};
use meddino::{Result, Tensor};

use super::args::Look;
use super::cases::Case;
use super::say::warn;

/// How an input becomes images.
#[derive(Clone, Debug)]
pub struct View {
    pub size: Size,
    pub window: Window,
    pub orient: Orient,
}

impl From<&Look> for View {
    fn from(look: &Look) -> Self {
        Self { size: look.size, window: look.window, orient: look.orient }
    }
}

impl View {
    /// As the authors' demo looks at a scan, at `size`.
    pub fn demo(size: Size) -> Self {
        Self { size, window: Window::DEMO, orient: Orient::Lps }
    }
}

/// An open input, and how it is looked at.
pub struct Input {
    source: Source,
    view: View,
}

enum Source {
    /// HU, to be normalised.
    Scan(Volume),
    /// Taken as they are.
    Images(Images),
}

impl Input {
    /// Opens the word `phantom`, a `.safetensors` of images, or a scan.
    pub fn open(case: &Case, view: View) -> Result<Self> {
        let path = &case.input;
        let is_safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        let source = match () {
            () if case.is_phantom() => Source::Scan(Volume::phantom()),
            () if is_safetensors => Source::Images(Images::open(path)?),
            () => Source::Scan(Volume::open_series(path, case.series.as_deref())?.oriented(view.orient)?),
        };
        if let Source::Scan(scan) = &source {
            scan.warnings().iter().for_each(|warning| warn(format_args!("{}: {warning}", path.display())));
        }
        Ok(Self { source, view })
    }

    /// [S, C, H, W]: how many images it gives, and of what shape.
    pub fn shape(&self) -> [usize; 4] {
        let [s, c, h, w] = self.slices();
        let (h, w) = self.view.size.of(h, w);
        [s, c, h, w]
    }

    /// [S, C, H, W] before anything is resized.
    pub fn slices(&self) -> [usize; 4] {
        match &self.source {
            Source::Scan(scan) => [scan.slices(), 1, scan.height(), scan.width()],
            Source::Images(images) => images.shape(),
        }
    }

    /// Slice `index` as people look at it, [H, W]: in HU, or the first channel of an image that is normalised already.
    pub fn slice(&mut self, index: usize) -> Result<Tensor> {
        let [_, _, h, w] = self.slices();
        match &mut self.source {
            Source::Scan(scan) => scan.read_slice(index),
            Source::Images(images) => Ok(Tensor::new([h, w], images.read(index)?.data()[..h * w].to_vec())),
        }
    }

    /// Image `index`: [1, C, H, W], normalised.
    fn image(&mut self, index: usize) -> Result<Tensor> {
        let [_, _, h, w] = self.shape();
        match &mut self.source {
            Source::Scan(scan) => Ok(prepare(&scan.read_slice(index)?, &self.view.window, self.view.size)),
            Source::Images(images) => Ok(resize(&images.read(index)?, h, w)),
        }
    }

    /// Several images: [B, C, H, W], normalised.
    pub fn batch(&mut self, indices: impl IntoIterator<Item = usize>) -> Result<Tensor> {
        let [_, c, h, w] = self.shape();
        let mut values = Vec::new();
        for index in indices {
            values.extend_from_slice(self.image(index)?.data());
        }
        Ok(Tensor::new([values.len() / (c * h * w), c, h, w], values))
    }

    /// How its values become the image's.
    pub fn preprocessing(&self) -> Preprocessing {
        let View { size, window, orient, .. } = self.view;
        match self.source {
            Source::Scan(_) => Preprocessing::Scan { window, size, orient },
            Source::Images(_) => Preprocessing::Done { size },
        }
    }

    /// Height and width of a pixel of a slice: in mm if the scan says so, else 1 and 1.
    pub fn pixel(&self) -> (f64, f64) {
        let Source::Scan(scan) = &self.source else { return (1.0, 1.0) };
        scan.affine().map_or((1.0, 1.0), |affine| {
            let [column, row, _] = affine.spacing();
            (row, column)
        })
    }

    /// The format and what else identifies a scan.
    pub fn about(&self) -> &[(&'static str, String)] {
        match &self.source {
            Source::Scan(scan) => scan.about(),
            Source::Images(_) => &[],
        }
    }

    /// Where the patches of `slices` lie, if the input says so.
    pub fn place(&self, slices: &[usize], patch_size: usize) -> Option<Place> {
        let Source::Scan(scan) = &self.source else { return None };
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
