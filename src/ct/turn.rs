//! Reordering and reversing a scan's axes: slices are rearranged while they are read.

use super::affine::Affine;
use super::source::{MAX_SLICE_SIDE, SliceReader, StoredScan};
use super::spool::{Spool, bytes_of};
use crate::error::Problem;

/// The most bytes of a scan that are buffered while it is spooled in another order. The buffer holds at least one
/// slice.
const BUFFER: usize = 64 << 20;

/// A permutation of the axes (0 column, 1 row, 2 slice), and which of them are reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// For each new axis, the stored axis that it comes from.
    pub(super) from: [usize; 3],
    /// For each new axis, whether it runs against the stored one.
    pub(super) flip: [bool; 3],
}

impl Turn {
    /// The identity.
    pub const NONE: Self = Self { from: [0, 1, 2], flip: [false; 3] };

    /// Returns the permutation whose new slices, rows and columns are the stored axes `order` (0 slices, 1 rows, 2
    /// columns).
    ///
    /// # Panics
    /// If `order` is not a permutation of 0, 1 and 2.
    pub fn of_order(order: [usize; 3]) -> Self {
        assert!((0..3).all(|axis| order.contains(&axis)), "{order:?} is no order of the axes");
        Self { from: [2, 1, 0].map(|axis| 2 - order[axis]), flip: [false; 3] }
    }

    /// Returns the turn that first does this turn and then `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let of = |axis: usize| (self.from[next.from[axis]], self.flip[next.from[axis]] != next.flip[axis]);
        Self { from: [0, 1, 2].map(|axis| of(axis).0), flip: [0, 1, 2].map(|axis| of(axis).1) }
    }

    /// Returns the turn that undoes this one.
    #[must_use]
    pub fn back(self) -> Self {
        let new = [0, 1, 2].map(|axis| self.from.iter().position(|from| *from == axis).expect("a permutation"));
        Self { from: new, flip: new.map(|axis| self.flip[axis]) }
    }

    /// Returns the stored values of each axis, `[slices, rows, columns]`, in the order of the turned axes. They may be
    /// counts or distances.
    pub fn of_axes<T: Copy>(self, stored: [T; 3]) -> [T; 3] {
        [2, 1, 0].map(|axis| stored[2 - self.from[axis]])
    }

    /// Returns the stored [slice, row, column] of the voxel at `index`, which is in the turned order. `shape` is the
    /// stored [S, H, W].
    pub fn stored_index(self, index: [usize; 3], shape: [usize; 3]) -> [usize; 3] {
        let mut stored = [0; 3];
        for axis in 0..3 {
            let (from, at) = (self.from[axis], index[2 - axis]);
            stored[2 - from] = if self.flip[axis] { length(shape, from) - 1 - at } else { at };
        }
        stored
    }

    /// Returns the turn after which columns run most nearly to the right, rows to anterior and slices to superior, as
    /// in nibabel's `as_reoriented(io_orientation(affine))`.
    ///
    /// `affine` must be usable.
    pub fn to_ras(affine: &Affine) -> Self {
        Self::to_lps(affine).then(Self { flip: [true, true, false], ..Self::NONE })
    }

    /// Returns the turn after which columns run to the right, rows to anterior and slices to superior, as in
    /// SimpleITK's `DICOMOrient`. `directions` has a row for each of the patient's axes in RAS+, and a column for each
    /// stored axis.
    ///
    /// The pair of axes with the largest component is matched first, of equal ones the last in the order of the
    /// rows. [`Turn::to_ras`] matches others where two are equal up to rounding, or an oblique scan is sheared.
    pub fn to_ras_by_largest(directions: &[[f64; 3]; 3]) -> Self {
        let mut turn = Self::NONE;
        let mut pairs: Vec<(usize, usize)> = (0..9).map(|n| (n / 3, n % 3)).collect();
        let component = |&(patient, axis): &(usize, usize)| directions[patient][axis];
        // `max_by` returns the last of equal elements.
        while let Some(largest) = pairs.iter().copied().max_by(|a, b| component(a).abs().total_cmp(&component(b).abs())) {
            let (patient, axis) = largest;
            turn.from[patient] = axis;
            turn.flip[patient] = component(&largest) < 0.0;
            pairs.retain(|pair| pair.0 != patient && pair.1 != axis);
        }
        turn
    }

    /// Returns the turn after which columns run most nearly to the left, rows to posterior and slices to superior.
    /// Stored axes are matched in order of their alignment, the best aligned first. Each takes the patient's axis
    /// nearest to it among those still free, as in nibabel's `io_orientation`.
    ///
    /// `affine` must be usable.
    pub fn to_lps(affine: &Affine) -> Self {
        let rotation = affine.rotation();
        let strongest = |axis: usize| rotation.iter().map(|row| row[axis].abs()).fold(0.0, f64::max);
        let mut axes = [0, 1, 2];
        // The sort is stable, so that of two equally aligned axes the first comes first.
        axes.sort_by(|&a, &b| strongest(b).total_cmp(&strongest(a)));
        let mut turn = Self::NONE;
        let mut free = vec![0, 1, 2];
        for axis in axes {
            // `max_by` returns the last of equal elements, so the reversed order makes it return the first.
            let patient = free.iter().copied().rev().max_by(|&a, &b| rotation[a][axis].abs().total_cmp(&rotation[b][axis].abs()));
            let patient = patient.expect("three for three");
            free.retain(|&other| other != patient);
            // RAS+: left and posterior are the negative directions.
            let toward = if patient == 2 { rotation[patient][axis] } else { -rotation[patient][axis] };
            turn.from[patient] = axis;
            turn.flip[patient] = toward < 0.0;
        }
        turn
    }

    /// Returns the largest angle between a turned axis and the patient's axis, in degrees.
    pub(super) fn off_axis(&self, affine: &Affine) -> f64 {
        let angle = |patient: usize| {
            let step = affine.column(self.from[patient]);
            let across = (0..3).filter(|&i| i != patient).map(|i| step[i] * step[i]).sum::<f64>().sqrt();
            across.atan2(step[patient].abs()).to_degrees()
        };
        (0..3).map(angle).fold(0.0, f64::max)
    }

    /// Returns the affine after the turn. `shape` is the stored [S, H, W].
    pub(super) fn affine(&self, affine: &Affine, shape: [usize; 3]) -> Affine {
        let mut origin = affine.column(3);
        let columns = [0, 1, 2].map(|axis| {
            let step = affine.column(self.from[axis]);
            if !self.flip[axis] {
                return step;
            }
            let last = (length(shape, self.from[axis]) - 1) as f64;
            origin.iter_mut().zip(step).for_each(|(o, s)| *o += last * s);
            // Subtract from 0, because `-s` would turn 0 into -0.
            step.map(|s| 0.0 - s)
        });
        Affine::from_columns(columns[0], columns[1], columns[2], origin)
    }

    /// Turns `stored`. If the scan must be spooled, it is read when its first slice is requested.
    ///
    /// # Errors
    /// If a slice would be too large.
    pub(super) fn apply(self, stored: StoredScan) -> Result<StoredScan, String> {
        if self == Self::NONE {
            return Ok(stored);
        }
        let old = stored.shape;
        let shape = [2, 1, 0].map(|axis| length(old, self.from[axis]));
        if shape[1] > MAX_SLICE_SIDE || shape[2] > MAX_SLICE_SIDE {
            let [_, h, w] = shape;
            return Err(format!("its axial slices, of {h} x {w}, are beyond {MAX_SLICE_SIDE} pixels a side; read it with `orient` stored"));
        }
        let affine = stored.affine.map(|affine| self.affine(&affine, old));
        let slices = Turned { turn: self, shape: old, stored: stored.slices, spool: None };
        Ok(StoredScan {
            shape,
            affine,
            #[cfg(feature = "readers")]
            nifti: None,
            #[cfg(feature = "readers")]
            grid: None,
            #[cfg(feature = "readers")]
            dicom: None,
            slices: Box::new(slices),
            ..stored
        })
    }
}

/// Returns the number of voxels along `axis` (0 column, 1 row, 2 slice) of [S, H, W].
fn length(shape: [usize; 3], axis: usize) -> usize {
    shape[2 - axis]
}

/// Slices of a scan across any of its stored axes.
///
/// Slices across the stored slice axis are read one at a time and rearranged. Otherwise all stored slices are read
/// once, in order, into a temporary file in which each requested slice is contiguous.
#[derive(Debug)]
struct Turned {
    turn: Turn,
    /// The stored [S, H, W].
    shape: [usize; 3],
    stored: Box<dyn SliceReader>,
    /// f32 [slices, S, others]. `slices` counts along the stored axis that becomes the slice axis, `others` along the
    /// remaining stored axis.
    spool: Option<Spool>,
}

impl SliceReader for Turned {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let Turn { from, flip } = self.turn;
        let across = from[2];
        let index = if flip[2] { length(self.shape, across) - 1 - index } else { index };
        // The stored axis along a row of the plane that is read, and the one down its columns.
        let (along, down) = if across == 2 { (0, 1) } else { (1 - across, 2) };
        let values = if across == 2 { self.stored.read_slice(index)? } else { self.read_spooled(index)? };
        let plane = [length(self.shape, down), length(self.shape, along)];
        Ok(rearranged(values, plane, from[0] != along, [flip[1], flip[0]]))
    }
}

impl Turned {
    /// Reads plane `index` across the stored column or row axis: [S, others].
    fn read_spooled(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let mut spool = match self.spool.take() {
            Some(spool) => spool,
            None => self.fill_spool()?,
        };
        let plane = [self.shape[0], length(self.shape, 1 - self.turn.from[2])];
        let mut values = zeros(plane[0] * plane[1])?;
        let result = spool.read_at(bytes_of([index, plane[0], plane[1]]), bytemuck::cast_slice_mut(&mut values));
        self.spool = Some(spool);
        result.map(|()| values)
    }

    /// Reads every stored slice into a new spool. A bounded number of slices is buffered, so that each write is longer
    /// than one line.
    fn fill_spool(&mut self) -> Result<Spool, Problem> {
        let [slices, height, width] = self.shape;
        let across = self.turn.from[2];
        let (planes, others) = (length(self.shape, across), length(self.shape, 1 - across));
        let mut spool = Spool::new(bytes_of(self.shape))?;
        let held = (BUFFER / (height * width * 4)).clamp(1, slices);
        let mut buffer = zeros(held * height * width)?;
        for first in (0..slices).step_by(held) {
            let count = held.min(slices - first);
            // [planes, count, others]
            let part = &mut buffer[..count * height * width];
            for k in 0..count {
                let slice = self.stored.read_slice(first + k)?;
                for plane in 0..planes {
                    let line = &mut part[(plane * count + k) * others..][..others];
                    let (start, step) = if across == 0 { (plane, width) } else { (plane * width, 1) };
                    line.iter_mut().zip(slice[start..].iter().step_by(step)).for_each(|(to, from)| *to = *from);
                }
            }
            for (plane, lines) in part.chunks_exact(count * others).enumerate() {
                spool.write_at(bytes_of([plane, slices, others]) + bytes_of([1, first, others]), bytemuck::cast_slice(lines))?;
            }
        }
        Ok(spool)
    }
}

/// Rearranges a plane [H, W]: transposes it if `transpose`, then reverses its rows and its columns as `flip` says.
fn rearranged(values: Vec<f32>, [height, width]: [usize; 2], transpose: bool, flip: [bool; 2]) -> Vec<f32> {
    if !transpose && flip == [false; 2] {
        return values;
    }
    // The number of elements and their stride, down the new columns and along the new rows.
    let [down, along] = if transpose { [(width, 1), (height, width)] } else { [(height, width), (width, 1)] };
    let at = |(length, step): (usize, usize), flip: bool, i: usize| (if flip { length - 1 - i } else { i }) * step;
    let mut turned = Vec::with_capacity(values.len());
    for row in 0..down.0 {
        let start = at(down, flip[0], row);
        turned.extend((0..along.0).map(|column| values[start + at(along, flip[1], column)]));
    }
    turned
}

fn zeros(len: usize) -> Result<Vec<f32>, Problem> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| format!("no memory for {len} values"))?;
    values.resize(len, 0.0);
    Ok(values)
}
