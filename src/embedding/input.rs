//! The input that a host gives a pass: slices, which become images on the device, or prepared images.

use crate::ct::{self, Size, Window};
use crate::error::{Error, Result};
use crate::graph::{Role, TensorId};
use crate::kernels::{Field, Recorder, Values, taps};
use crate::vit::config::{Config, MAX_SIDE};

/// The maximum number of rows of a batch. The device addresses the rows of slices by f32 numbers, which are exact up to
/// this number.
const MAX_ROWS: usize = 1 << 24;

/// The input of a pass: B slices or B images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PassInput {
    /// Slices in the scanner's values. The pass normalises and resizes them on the device.
    Slices(SliceInput),
    /// Images in the form that the model takes.
    Images(ImageInput),
}

/// Slices [B, H, W] of f32, and the parameters that turn them into images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SliceInput {
    /// Height and width of a slice in pixels, each from 1 to [`MAX_SIDE`].
    pub slice: (usize, usize),
    /// The scale and the shift that turn a stored value into Hounsfield units (HU): HU = value * scale + shift.
    /// Use (1, 0) if the host stores HU, or values that are normalised already.
    pub rescale: (f32, f32),
    /// The window that normalises HU. Use [`Window::NONE`] if the values are normalised already.
    pub window: Window,
    /// The size of the image that the model sees.
    pub size: Size,
}

impl SliceInput {
    /// Slices in HU of `height` x `width` pixels. The model sees them at this size, normalised by the authors' window.
    pub fn new(height: usize, width: usize) -> Self {
        Self { slice: (height, width), rescale: (1.0, 0.0), window: Window::DEMO, size: Size::Native }
    }

    fn check(&self) -> Result<()> {
        let (height, width) = self.slice;
        if [height, width].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
            return Err(Error::option("slice", format!("{height} x {width} pixels; expected sides from 1 to {MAX_SIDE}")));
        }
        let Window { lo, hi, mean, std } = self.window;
        let bad = lo.is_nan() || hi.is_nan() || lo >= hi || !mean.is_finite() || !(std.is_finite() && std > 0.0);
        if bad || !(self.rescale.0.is_finite() && self.rescale.1.is_finite()) {
            return Err(Error::option(
                "window",
                format!(
                    "{:?} after rescale {:?}; expected lo below hi, std above 0, and finite numbers in mean, std and rescale",
                    self.window, self.rescale
                ),
            ));
        }
        Ok(())
    }

    fn values(&self) -> Values {
        let Window { lo, hi, mean, std } = self.window;
        let ((scale, shift), divisor) = (self.rescale, (f64::from(std) + 1e-8) as f32);
        // Shaders cannot rely on infinities, so an open end becomes the largest finite number.
        Values { scale, shift, lo: lo.max(f32::MIN), hi: hi.min(f32::MAX), mean, divisor }
    }

    /// Returns the number of rows from the start of one slice to the start of the next in the input's tensor. It is at
    /// least the slice's height, and each slice starts at a multiple of `alignment` bytes.
    fn stride(&self, alignment: u64) -> usize {
        let (height, width) = self.slice;
        let row_bytes = 4 * width;
        let rows = alignment as usize / gcd(alignment as usize, row_bytes);
        height.next_multiple_of(rows.max(1))
    }
}

/// Normalised images [B, `channels`, `height`, `width`] of f32, as [`ct::prepare`] makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInput {
    /// The number of channels that the model takes, or 1 for an image whose channel serves as all of them (CT).
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl From<SliceInput> for PassInput {
    fn from(slices: SliceInput) -> Self {
        Self::Slices(slices)
    }
}

impl From<ImageInput> for PassInput {
    fn from(images: ImageInput) -> Self {
        Self::Images(images)
    }
}

impl PassInput {
    /// Returns height and width of one slice, or of one image if the host gives images.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Slices(slices) => slices.slice,
            Self::Images(images) => (images.height, images.width),
        }
    }

    /// Returns the shape of the images that the model sees: [B, channels, H, W].
    pub(super) fn image_shape(&self, batch: usize) -> [usize; 4] {
        match *self {
            Self::Slices(SliceInput { slice, size, .. }) => {
                let (height, width) = size.of(slice.0, slice.1);
                [batch, 1, height, width]
            }
            Self::Images(ImageInput { channels, height, width }) => [batch, channels, height, width],
        }
    }

    /// Returns the number of values of one slice or image.
    pub(super) fn len(&self) -> usize {
        match *self {
            Self::Slices(SliceInput { slice, .. }) => slice.0 * slice.1,
            Self::Images(ImageInput { channels, height, width }) => channels * height * width,
        }
    }

    /// Returns the number of values from the start of one slice or image to the start of the next, on a device that
    /// binds buffers at multiples of `alignment` bytes.
    pub(super) fn stride(&self, alignment: u64) -> usize {
        match self {
            Self::Slices(slices) => slices.stride(alignment) * slices.slice.1,
            Self::Images(_) => self.len(),
        }
    }
}

/// The tensors between the host's input and the model.
pub(super) struct Entrance {
    /// The slices or images that the host writes.
    pub input: TensorId,
    /// The image that the model sees: [B, channels, H, W].
    pub image: TensorId,
    /// Tables that are written only once, when the pass is prepared.
    pub tables: Vec<(TensorId, Vec<f32>)>,
}

impl Entrance {
    /// Checks a batch of the input, and records the operations that turn the input into images.
    pub fn record(g: &mut Recorder, config: &Config, input: &PassInput, batch: usize) -> Result<Self> {
        if let PassInput::Slices(slices) = input {
            slices.check()?;
        }
        let shape = input.image_shape(batch.max(1));
        config.check_image(&shape)?;
        let stride = input.stride(g.limits().alignment);
        let (height, width) = input.size();
        let rows = (stride / width).max(shape[2]).checked_mul(batch).filter(|rows| (1..=MAX_ROWS).contains(rows));
        if rows.is_none() {
            return Err(Error::option(
                "batch",
                format!("{batch} of {height} x {width} pixels; expected 1 to {MAX_ROWS} rows of pixels together"),
            ));
        }
        match input {
            PassInput::Slices(slices) => Self::of_slices(g, slices, shape, stride / width),
            PassInput::Images(_) => {
                let image = g.tensor("image", shape, Role::Input);
                Ok(Self { input: image, image, tables: Vec::new() })
            }
        }
    }

    /// Records one resize for the whole batch. The slices below each other form one tall image, in which slice b begins
    /// at row b * `stride`.
    fn of_slices(g: &mut Recorder, slices: &SliceInput, shape: [usize; 4], stride: usize) -> Result<Self> {
        let ([batch, _, height, width], (rows, cols)) = (shape, slices.slice);
        let tall = (batch - 1) * stride + rows;
        let input = g.tensor("slices", [tall, cols], Role::Input);
        let down = ct::taps(rows, height);
        let down: Vec<_> =
            (0..batch).flat_map(|at| down.iter().map(move |(first, weights)| (at * stride + first, weights.clone()))).collect();
        let lines = [("rows", down), ("columns", ct::taps(cols, width))];
        let tables = lines.map(|(name, lines)| {
            let table = taps(&lines);
            (g.tensor(name, [lines.len(), table.len() / lines.len()], Role::Input), table)
        });
        let field = Field { first: 0, height: tall, width: cols, channels: 1 };
        let image = g.resize("resize", input, field, tables.each_ref().map(|(id, _)| *id), slices.values(), shape)?;
        g.keep(image);
        Ok(Self { input, image, tables: tables.into() })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_start_where_a_buffer_may_be_bound() {
        for (height, width, alignment, want) in [(75, 64, 256, 75), (75, 3, 256, 128), (75, 48, 256, 76), (1, 1, 256, 64), (5, 7, 4, 5)] {
            let stride = SliceInput::new(height, width).stride(alignment);
            assert_eq!(stride, want, "{height} x {width} at multiples of {alignment}");
            assert_eq!((4 * stride * width) as u64 % alignment, 0);
        }
    }
}
