//! Separable resampling of an image, by tables that list the source lines and weights of each line.

use super::cut::cut;
use super::{Recorder, rows_of, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, TensorId};

/// Invocations of a workgroup along each axis.
const SIDE: u32 = 8;

/// Operations per pixel and tap: 6 to change the value, 2 for product and sum.
const FLOPS: u64 = 8;

/// How a value is changed before it is weighted: `(clamp(v scale + shift, lo, hi) - mean) / divisor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// Factor that converts stored values to the units of `lo` and `hi`.
    pub scale: f32,
    /// Summand, in the units of `lo` and `hi`.
    pub shift: f32,
    /// Lower bound; finite.
    pub lo: f32,
    /// Upper bound; finite.
    pub hi: f32,
    /// Subtracted.
    pub mean: f32,
    /// Divisor, applied last.
    pub divisor: f32,
}

impl Values {
    /// Leaves values unchanged.
    pub const SAME: Self = Self { scale: 1.0, shift: 0.0, lo: f32::MIN, hi: f32::MAX, mean: 0.0, divisor: 1.0 };
}

/// The image to resample: [`height`, `width`, `channels`] elements of a tensor from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The first element.
    pub first: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values per pixel.
    pub channels: usize,
}

/// Returns the table that [`Recorder::resize`] reads, [lines, 2 + most]. Each line holds its first source line, the
/// number of source lines, and their weights, padded with zeros to the longest line.
pub fn taps(lines: &[(usize, Vec<f32>)]) -> Vec<f32> {
    let most = lines.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0);
    let line = |(first, weights): &(usize, Vec<f32>)| {
        let mut row = vec![*first as f32, weights.len() as f32];
        row.extend(weights);
        row.resize(2 + most, 0.0);
        row
    };
    lines.iter().flat_map(line).collect()
}

impl Recorder {
    /// Resamples the `field` of `x`, with values changed by `values`, to H rows and W columns. [`taps`] makes the
    /// tables `down` [H, 2 + taps] and `across` [W, 2 + taps]. The result has `shape`, whose elements are [H, W,
    /// channels] in f32. A pixel without taps is 0.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it, or for the whole source in one binding.
    pub fn resize(
        &mut self,
        label: &str,
        x: TensorId,
        field: Field,
        [down, across]: [TensorId; 2],
        values: Values,
        shape: impl Into<Vec<usize>>,
    ) -> Result<TensorId> {
        let Field { first, height, width, channels } = field;
        let ([rows, down_len], [cols, across_len]) = (self.shape(label, down), self.shape(label, across));
        assert!(first + height * width * channels <= self.graph.info(x).len() && height * width * channels > 0, "{label}: {field:?}");
        assert!(down_len >= 2 && across_len >= 2, "{label}: tables of {down_len} and {across_len} columns");
        self.expect_f32(label, &[x, down, across]);
        let constants = [("SIDE", SIDE as usize), ("CHANNELS", channels), ("DOWN", down_len), ("ACROSS", across_len)];
        let constants = constants.map(|(name, value)| (name, (value as u32).into())).to_vec();
        let kernel = Kernel { name: "resize", parts: vec![include_str!("../../shaders/resize.wgsl")], constants };
        let taps = product(&[down_len - 2, across_len - 2]);
        // A piece reads the source rows that its result depends on.
        let cost = |some: usize| {
            let pixels = product(&[some, cols, channels]);
            Cost { flops: FLOPS * taps * pixels, bytes: 4 * (pixels + product(&[height, width, channels, some]) / rows as u64) }
        };
        let most = self.limits.reach(SIDE as usize);
        let pieces = cut(&self.limits, label, rows, &[4 * cols * channels], most, self.affordable(cost(1), SIDE as usize))?;
        let y = self.result(label, shape);
        self.expect_len(label, y, rows * cols * channels);
        for piece in pieces {
            let numbers = [values.scale, values.shift, values.lo, values.hi, values.mean, values.divisor].map(|v| v.to_bits() as usize);
            self.push(Dispatch {
                label: label.to_owned(),
                kernel: kernel.clone(),
                reads: [x, down, across].map(|id| self.graph.whole(id)).to_vec(),
                write: rows_of(y, &piece, cols * channels),
                params: words(&[&[first, height, width, piece.start, piece.len(), cols], &numbers[..]].concat()),
                workgroups: [cols.div_ceil(SIDE as usize) as u32, piece.len().div_ceil(SIDE as usize) as u32, 1],
                cost: cost(piece.len()),
            });
        }
        Ok(y)
    }
}
