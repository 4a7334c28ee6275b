//! A temporary file of slices, for data that is read more than once.

use super::source::SliceReader;
use super::spool::{Spool, bytes_of};
use super::volume::Volume;
use crate::error::{Error, Problem, Result};

/// An unnamed temporary file of slices of H x W values, in the folder that `TMPDIR` names. Slices are written one after
/// another, and then read in any order.
#[derive(Debug)]
pub struct Scratch {
    spool: Spool,
    /// [S, H, W]
    shape: [usize; 3],
    kept: usize,
}

impl Scratch {
    /// Creates a file for slices of `shape` [S, H, W].
    ///
    /// # Errors
    /// If no file can be created in the temporary folder.
    pub fn new(shape: [usize; 3]) -> Result<Self> {
        let spool = Spool::new(bytes_of(shape)).map_err(fail)?;
        Ok(Self { spool, shape, kept: 0 })
    }

    /// Appends the next slice.
    ///
    /// # Errors
    /// If the disk is full or fails.
    ///
    /// # Panics
    /// If the slice does not have H * W values, or all S slices have been written.
    pub fn push(&mut self, slice: &[f32]) -> Result<()> {
        let [slices, height, width] = self.shape;
        assert!(slice.len() == height * width && self.kept < slices, "slice {} of {:?}", self.kept, self.shape);
        self.spool.write_at(bytes_of([self.kept, height, width]), bytemuck::cast_slice(slice)).map_err(fail)?;
        self.kept += 1;
        Ok(())
    }

    /// Converts the file to a volume. Errors call the volume `name`.
    ///
    /// # Panics
    /// If fewer than S slices have been written.
    pub fn into_volume(self, name: impl Into<String>) -> Volume {
        assert_eq!(self.kept, self.shape[0], "every slice is kept");
        Volume::of_slices(name.into(), self.shape, Box::new(self))
    }
}

impl SliceReader for Scratch {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let [_, height, width] = self.shape;
        let mut values = vec![0.0; height * width];
        self.spool.read_at(bytes_of([index, height, width]), bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }
}

fn fail(problem: Problem) -> Error {
    Error::output("a temporary file", problem)
}
