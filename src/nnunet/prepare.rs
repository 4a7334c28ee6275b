//! Preprocessing of a scan's slices for the network: crop, normalise, resample, pad.

use std::ops::Range;

use super::plans::{Configuration, CtNormalization};
use super::resample::cubic;
use super::spacing::resampled;
use crate::ct::Volume;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The sizes of a scan's slices at each step of preprocessing. They also serve to map scores back to the scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// [S, H, W] of the scan, with its axes in the network's order.
    pub shape: [usize; 3],
    /// The bounding box of the nonzero voxels: slices, rows, columns. If all voxels are 0, the whole scan.
    pub cropped: [Range<usize>; 3],
    /// Rows and columns of the cropped slice at the network's spacing.
    pub resized: [usize; 2],
    /// Rows and columns with padding: at least those of a tile.
    pub padded: [usize; 2],
}

impl Frame {
    /// Returns the rows and columns of the cropped slice.
    pub fn cropped_size(&self) -> [usize; 2] {
        [1, 2].map(|axis| self.cropped[axis].len())
    }

    /// Returns the number of rows of padding above and of columns of padding to the left.
    pub fn offset(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.padded[axis] - self.resized[axis]) / 2)
    }
}

/// A scan whose slices are preprocessed for the network as they are read.
#[derive(Debug)]
pub struct Prepared {
    volume: Volume,
    frame: Frame,
    ct: CtNormalization,
    /// The smallest and largest normalised value, to which results of spline resampling are clamped. None if each slice
    /// has its own limits.
    limits: Option<(f32, f32)>,
}

impl Prepared {
    /// Reads all of `volume` once, a slice at a time, to find its nonzero voxels. Its voxels are `spacing` apart
    /// (slices, rows, columns, in mm).
    ///
    /// The volume's axes must be as stored, because this function applies [`Configuration::transpose`].
    ///
    /// # Errors
    /// If `volume` cannot be read, or nnU-Net's resampling for its spacing is not supported.
    pub fn new(volume: Volume, spacing: [f64; 3], configuration: &Configuration) -> Result<Self> {
        let order = configuration.transpose;
        let (spacing, mut volume) = (order.map(|axis| spacing[axis]), volume.transposed(order)?);
        let fail = |problem: String| Error::input(volume.name(), problem);
        let new = [spacing[0], configuration.spacing[0], configuration.spacing[1]];
        let by_slice = configuration.separate.by_slice(spacing, new).map_err(fail)?;
        configuration.separate_scores.by_slice(new, spacing).map_err(fail)?;
        let found = Extent::of(&mut volume)?;
        let shape = [volume.slices(), volume.height(), volume.width()];
        let cropped = found.cropped(shape);
        let resized = |axis: usize| resampled(cropped[axis + 1].len(), spacing[axis + 1], configuration.spacing[axis]);
        let fail = |problem: String| Error::input(volume.name(), problem);
        let resized = [resized(0).map_err(fail)?, resized(1).map_err(fail)?];
        let padded = [0, 1].map(|axis| resized[axis].max(configuration.tile[axis]));
        let ct = configuration.ct;
        let limits = (!by_slice).then(|| found.limits(&cropped)).map(|(lo, hi)| (ct.apply(lo), ct.apply(hi)));
        Ok(Self { volume, frame: Frame { shape, cropped, resized, padded }, ct, limits })
    }

    /// Returns the sizes of the slices at each step.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Reads slice `index` of the scan and preprocesses it for the network: [H, W] with padding. Returns `None` if the
    /// slice is outside the bounding box of the nonzero voxels, where every voxel is background.
    ///
    /// # Errors
    /// As [`Volume::read_slice`].
    ///
    /// # Panics
    /// If `index` is not below S.
    pub fn slice(&mut self, index: usize) -> Result<Option<Tensor>> {
        let Frame { cropped: [slices, rows, columns], resized, padded, .. } = &self.frame;
        if !slices.contains(&index) {
            return Ok(None);
        }
        let (slice, width) = (self.volume.read_slice(index)?, self.volume.width());
        let lines = rows.clone().map(|row| &slice.data()[row * width..][columns.clone()]);
        let values: Vec<f32> = lines.flatten().map(|&hu| self.ct.apply(hu)).collect();
        let values = self.resample(values, [rows.len(), columns.len()], *resized);
        let ([height, width], [top, left]) = (*padded, self.frame.offset());
        let mut image = Tensor::zeros([height, width]);
        for (to, from) in image.data_mut()[top * width..].chunks_exact_mut(width).zip(values.chunks_exact(resized[1])) {
            to[left..][..resized[1]].copy_from_slice(from);
        }
        Ok(Some(image))
    }

    /// Resamples values [H, W], and clamps the result to the range of the values before resampling.
    fn resample(&self, values: Vec<f32>, from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
        if from == to {
            return values;
        }
        let (lo, hi) = self.limits.unwrap_or_else(|| limits(&values));
        let wide = values.into_iter().map(f64::from).collect();
        cubic(wide, from, to).into_iter().map(|v| v.clamp(f64::from(lo), f64::from(hi)) as f32).collect()
    }
}

fn limits(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}

/// The nonzero voxels of a scan: their bounding box, number and range. nnU-Net fills holes before it takes the bounding
/// box, which does not change the box.
struct Extent {
    /// The first and last index along each axis.
    ends: [Option<(usize, usize)>; 3],
    count: usize,
    limits: (f32, f32),
}

impl Extent {
    fn of(volume: &mut Volume) -> Result<Self> {
        let mut found = Self { ends: [None; 3], count: 0, limits: limits(&[]) };
        let width = volume.width();
        for index in 0..volume.slices() {
            let slice = volume.read_slice(index)?;
            for (row, line) in slice.data().chunks_exact(width).enumerate() {
                let Some(first) = line.iter().position(|v| *v != 0.0) else { continue };
                let last = line.iter().rposition(|v| *v != 0.0).unwrap_or(first);
                found.include([(index, index), (row, row), (first, last)]);
                let values = line[first..=last].iter().filter(|v| **v != 0.0);
                for &v in values {
                    found.count += 1;
                    found.limits = (found.limits.0.min(v), found.limits.1.max(v));
                }
            }
        }
        Ok(found)
    }

    fn include(&mut self, more: [(usize, usize); 3]) {
        for (end, (first, last)) in self.ends.iter_mut().zip(more) {
            *end = Some(end.map_or((first, last), |(f, l)| (f.min(first), l.max(last))));
        }
    }

    fn cropped(&self, shape: [usize; 3]) -> [Range<usize>; 3] {
        [0, 1, 2].map(|axis| self.ends[axis].map_or(0..shape[axis], |(first, last)| first..last + 1))
    }

    /// Returns the smallest and largest value in the box. 0 counts if the box contains it.
    fn limits(&self, cropped: &[Range<usize>; 3]) -> (f32, f32) {
        let (lo, hi) = self.limits;
        let is_full = self.count == cropped.iter().map(Range::len).product::<usize>();
        if is_full { (lo, hi) } else { (lo.min(0.0), hi.max(0.0)) }
    }
}
