//! Preprocessing of a slice in Hounsfield units into an image for the model.

use std::fmt;
use std::str::FromStr;

use super::resize::resized;
use super::window::Window;
use crate::error::Error;
use crate::tensor::{Tensor, TensorView};
use crate::vit::config::MAX_SIDE;

/// The size of the model's input image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// The slice's own size. The model sees whole patches only, so it ignores a remainder at the right and the bottom.
    #[default]
    Native,
    /// N x N pixels.
    Square(usize),
    /// `height` x `width` pixels.
    Exact {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
}

impl Size {
    /// Returns the image's height and width for a slice of `height` x `width`.
    pub fn of(self, height: usize, width: usize) -> (usize, usize) {
        match self {
            Self::Native => (height, width),
            Self::Square(side) => (side, side),
            Self::Exact { height, width } => (height, width),
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    /// Parses `native`, `N` or `HxW`, with sides from 1 to [`MAX_SIDE`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::option("size", format!("'{text}' is neither native, nor N, nor HxW with sides from 1 to {MAX_SIDE}"));
        let side = |s: &str| s.parse().ok().filter(|n| (1..=MAX_SIDE).contains(n)).ok_or_else(wrong);
        match text.split_once(['x', 'X']) {
            _ if text == "native" => Ok(Self::Native),
            None => Ok(Self::Square(side(text)?)),
            Some((height, width)) => Ok(Self::Exact { height: side(height)?, width: side(width)? }),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => write!(f, "native"),
            Self::Square(side) => write!(f, "{side}"),
            Self::Exact { height, width } => write!(f, "{height}x{width}"),
        }
    }
}

/// Converts a slice [H, W] in HU to an image [1, 1, H', W'] for the model. The slice is normalised first and resized
/// after, as in the authors' demo.
///
/// The three channels of a CT image are equal, so the image has one, and the model repeats it.
///
/// # Panics
/// If `slice` does not have two axes, or a side is 0.
#[must_use]
pub fn prepare<'a>(slice: impl Into<TensorView<'a>>, window: &Window, size: Size) -> Tensor {
    let slice = slice.into();
    let &[height, width] = slice.shape() else { panic!("a slice is [H, W], not {:?}", slice.shape()) };
    let image = Tensor::new([1, 1, height, width], window.normalised(slice.data()));
    let (height, width) = size.of(height, width);
    resized(image, height, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_alike() {
        for text in ["native", "224", "160x240", "8192"] {
            assert_eq!(text.parse::<Size>().expect(text).to_string(), text);
        }
        for text in ["", "0", "-1", "x", "1x", "8193", "224x0", "1e3", "224x224x3", "Native", "99999999999999999999"] {
            let error = text.parse::<Size>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("size: '{text}' is neither")), "{error}");
        }
    }

    #[test]
    fn a_slice_is_normalised_before_it_is_resized() {
        // Because values are clamped first, the mean of -1000 and 9000 is that of -1000 and 1000.
        let slice = Tensor::new([1, 2], vec![-1000.0, 9000.0]);
        let image = prepare(&slice, &Window::DEMO, Size::Square(1));
        assert_eq!(image.shape(), [1, 1, 1, 1]);
        assert!((image.data()[0] - (0.0 - 65.108_42) / 178.016_63).abs() < 1e-6);
    }
}
