//! From Hounsfield units to the values that the model was trained on.

use crate::tensor::Tensor;

/// Clamp to [`lo`, `hi`], then subtract `mean` and divide by `std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Lower end in HU.
    pub lo: f32,
    /// Upper end in HU.
    pub hi: f32,
    /// Subtracted after clamping, in HU.
    pub mean: f32,
    /// Divided by, in HU.
    pub std: f32,
}

impl Window {
    /// The authors' demo of MedDINOv3: the whole CT range, and the mean and deviation of its training data (CT-3M).
    pub const DEMO: Self = Self { lo: -1000.0, hi: 1000.0, mean: 65.108_42, std: 178.016_63 };

    /// Normalises HU in place: `(clamp(hu, lo, hi) - mean) / (std + 1e-8)`, one f32 operation a step as the authors' code does it.
    pub fn normalise(&self, hu: &mut Tensor) {
        // The sum is taken in f64 and rounded once, as Python does before PyTorch sees it.
        let divisor = (f64::from(self.std) + 1e-8) as f32;
        hu.data_mut().iter_mut().for_each(|v| *v = (v.clamp(self.lo, self.hi) - self.mean) / divisor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_authors() {
        assert_eq!(Window::DEMO.mean.to_bits(), (65.108_421_325_683_6_f64 as f32).to_bits());
        assert_eq!(Window::DEMO.std.to_bits(), (178.016_632_080_078_12_f64 as f32).to_bits());
    }

    #[test]
    fn values_beyond_the_window_are_its_ends() {
        let mut x = Tensor::new([4], vec![-3024.0, -1000.0, 1000.0, 30_000.0]);
        Window::DEMO.normalise(&mut x);
        let (lo, hi) = ((-1000.0 - 65.108_42) / 178.016_63, (1000.0 - 65.108_42) / 178.016_63);
        assert_eq!(x.data(), [lo, lo, hi, hi]);
    }
}
