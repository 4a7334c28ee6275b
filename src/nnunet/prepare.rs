//! Preprocessing of a scan's slices for the network: crop, normalise, resample, pad.

use std::ops::Range;

use super::plans::{Configuration, CtNormalization};
use super::resample::{cubic, nearest};
use super::spacing::resampled;
use crate::ct::{Geometry, Turn, Volume};
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
    /// Whether scores are resampled by nearest neighbour along rows and along columns, and not linearly.
    pub nearest: [bool; 2],
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
    /// The turn from the scan as it is stored to the network's axes.
    turn: Turn,
    /// The axis that is resampled separately.
    separate: Option<usize>,
    /// The smallest and largest normalised values, to which results of spline resampling are clamped: one pair for the
    /// whole scan, or one for each row or column of the cropped slice if that axis is separate, or none if the slice axis
    /// is, because then each slice has its own.
    limits: Vec<Limits>,
}

/// A smallest and a largest value.
type Limits = (f32, f32);

impl Prepared {
    /// Reads all of `volume` once, a slice at a time, to find its nonzero voxels. `geometry` is the volume's.
    ///
    /// The volume's axes must be as stored, because this function turns them ([`Configuration::turn`]).
    ///
    /// # Errors
    /// If `volume` cannot be read, or nnU-Net's resampling for its spacing is not supported.
    pub fn new(volume: Volume, geometry: &Geometry, configuration: &Configuration) -> Result<Self> {
        let turn = configuration.turn(geometry);
        let (spacing, mut volume) = (turn.of_axes(configuration.reader.spacing(geometry)), volume.turned(turn)?);
        let fail = |problem: String| Error::input(volume.name(), problem);
        let new = [spacing[0], configuration.spacing[0], configuration.spacing[1]];
        let separate = configuration.separate.axis(spacing, new).map_err(fail)?;
        let separate_scores = configuration.separate_scores.axis(new, spacing).map_err(fail)?;
        let found = Extent::of(&mut volume, separate)?;
        let shape = [volume.slices(), volume.height(), volume.width()];
        let cropped = found.cropped(shape);
        let resized = |axis: usize| resampled(cropped[axis + 1].len(), spacing[axis + 1], configuration.spacing[axis]);
        let fail = |problem: String| Error::input(volume.name(), problem);
        let resized = [resized(0).map_err(fail)?, resized(1).map_err(fail)?];
        let padded = [0, 1].map(|axis| resized[axis].max(configuration.tile[axis]));
        let ct = configuration.ct;
        let limits = found.limits(&cropped).into_iter().map(|(lo, hi)| (ct.apply(lo), ct.apply(hi))).collect();
        let nearest = [1, 2].map(|axis| separate_scores == Some(axis));
        Ok(Self { volume, frame: Frame { shape, cropped, resized, padded, nearest }, ct, turn, separate, limits })
    }

    /// Returns the turn from the scan as it is stored to the network's axes.
    pub fn turn(&self) -> Turn {
        self.turn
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
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        match self.separate {
            Some(1) => {
                let (wide, width) = (cubic(wide(values), from, [from[0], to[1]]), to[1]);
                let rows = (0..to[0]).map(|row| nearest(row, from[0], to[0]));
                rows.flat_map(|row| wide[row * width..][..width].iter().map(move |v| clamped(*v, self.limits[row]))).collect()
            }
            Some(2) => {
                let wide = cubic(wide(values), from, [to[0], from[1]]);
                let columns: Vec<usize> = (0..to[1]).map(|column| nearest(column, from[1], to[1])).collect();
                let row = |row: &[f64]| columns.iter().map(|&column| clamped(row[column], self.limits[column])).collect::<Vec<_>>();
                wide.chunks_exact(from[1]).flat_map(row).collect()
            }
            _ => {
                let limits = self.limits.first().copied().unwrap_or_else(|| limits(&values));
                cubic(wide(values), from, to).into_iter().map(|v| clamped(v, limits)).collect()
            }
        }
    }
}

fn clamped(v: f64, (lo, hi): Limits) -> f32 {
    v.clamp(f64::from(lo), f64::from(hi)) as f32
}

fn limits(values: &[f32]) -> Limits {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}

/// The nonzero voxels of a scan: their bounding box, number and range. nnU-Net fills holes before it takes the bounding
/// box, which does not change the box.
struct Extent {
    /// The first and last index along each axis.
    ends: [Option<(usize, usize)>; 3],
    /// The axis whose positions have limits of their own, or none if all voxels share limits.
    separate: Option<usize>,
    /// The nonzero voxels at each position of the axis `separate`.
    groups: Vec<Group>,
}

impl Extent {
    fn of(volume: &mut Volume, separate: Option<usize>) -> Result<Self> {
        let (height, width) = (volume.height(), volume.width());
        // The limits of a slice are found when the slice is resampled.
        let groups = match separate {
            None => 1,
            Some(axis) => [0, height, width][axis],
        };
        let mut found = Self { ends: [None; 3], separate, groups: vec![Group { count: 0, limits: limits(&[]) }; groups] };
        for index in 0..volume.slices() {
            let slice = volume.read_slice(index)?;
            for (row, line) in slice.data().chunks_exact(width).enumerate() {
                let Some(first) = line.iter().position(|v| *v != 0.0) else { continue };
                let last = line.iter().rposition(|v| *v != 0.0).unwrap_or(first);
                found.include([(index, index), (row, row), (first, last)]);
                match separate {
                    None => found.groups[0].include(&line[first..=last]),
                    Some(1) => found.groups[row].include(&line[first..=last]),
                    Some(2) => (first..=last).for_each(|column| found.groups[column].include(&line[column..=column])),
                    Some(_) => {}
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

    /// Returns the smallest and largest value of each group within the box. 0 counts if the group contains it.
    fn limits(&self, cropped: &[Range<usize>; 3]) -> Vec<Limits> {
        let voxels = cropped.iter().map(Range::len).product::<usize>();
        let (groups, each) = match self.separate {
            Some(axis @ (1 | 2)) => (&self.groups[cropped[axis].clone()], voxels / cropped[axis].len()),
            _ => (&self.groups[..], voxels),
        };
        let of = |group: &Group| if group.count == each { group.limits } else { (group.limits.0.min(0.0), group.limits.1.max(0.0)) };
        groups.iter().map(of).collect()
    }
}

/// Nonzero voxels that share limits.
#[derive(Clone)]
struct Group {
    count: usize,
    limits: Limits,
}

impl Group {
    fn include(&mut self, values: &[f32]) {
        for &v in values.iter().filter(|v| **v != 0.0) {
            self.count += 1;
            self.limits = (self.limits.0.min(v), self.limits.1.max(v));
        }
    }
}
