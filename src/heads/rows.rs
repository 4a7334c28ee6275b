//! Feature vectors, in memory or wherever they are read from block by block.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// N feature vectors of D channels. A fit reads them in blocks, from several threads, so that they need not fit into
/// memory.
pub trait Rows: Sync {
    /// Returns N.
    fn count(&self) -> usize;

    /// Returns D.
    fn width(&self) -> usize;

    /// Returns rows `first` to `first + count`, row-major. The result may borrow `buffer` or the rows themselves.
    ///
    /// # Errors
    /// If the rows cannot be read.
    ///
    /// # Panics
    /// If there are no such rows.
    fn read<'a>(&'a self, first: usize, count: usize, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]>;
}

/// A tensor [.., D] in memory.
impl Rows for Tensor {
    fn count(&self) -> usize {
        self.rows()
    }

    fn width(&self) -> usize {
        self.cols()
    }

    fn read<'a>(&'a self, first: usize, count: usize, _: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        Ok(&self.data()[first * self.cols()..][..count * self.cols()])
    }
}

/// The rows of several tensors [N, D], one after another.
pub struct Joined<'a> {
    parts: Vec<&'a Tensor>,
    /// The first row of each part, and the number of rows.
    starts: Vec<usize>,
}

impl<'a> Joined<'a> {
    /// Joins `parts`.
    ///
    /// # Panics
    /// If there are no parts, or they are not equally wide.
    pub fn new(parts: impl IntoIterator<Item = &'a Tensor>) -> Self {
        let parts: Vec<&Tensor> = parts.into_iter().collect();
        assert!(parts.iter().all(|part| part.cols() == parts[0].cols()), "parts of one width");
        let mut starts = vec![0];
        parts.iter().for_each(|part| starts.push(starts[starts.len() - 1] + part.rows()));
        Self { parts, starts }
    }

    /// Returns the number of row `row` of part `part` among all rows.
    pub fn row_of(&self, part: usize, row: usize) -> usize {
        self.starts[part] + row
    }
}

impl Rows for Joined<'_> {
    fn count(&self) -> usize {
        self.starts[self.parts.len()]
    }

    fn width(&self) -> usize {
        self.parts[0].cols()
    }

    fn read<'a>(&'a self, first: usize, count: usize, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        buffer.clear();
        let mut at = first;
        while at < first + count {
            let part = self.starts.partition_point(|start| *start <= at) - 1;
            let end = self.starts[part + 1].min(first + count);
            let width = self.width();
            buffer.extend_from_slice(&self.parts[part].data()[(at - self.starts[part]) * width..(end - self.starts[part]) * width]);
            at = end;
        }
        Ok(buffer)
    }
}

/// Some rows of others, in any order.
pub struct Chosen<'a> {
    rows: &'a dyn Rows,
    indices: &'a [usize],
}

impl<'a> Chosen<'a> {
    /// Chooses the rows `indices` of `rows`.
    pub fn new(rows: &'a dyn Rows, indices: &'a [usize]) -> Self {
        Self { rows, indices }
    }
}

impl Rows for Chosen<'_> {
    fn count(&self) -> usize {
        self.indices.len()
    }

    fn width(&self) -> usize {
        self.rows.width()
    }

    fn read<'a>(&'a self, first: usize, count: usize, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        buffer.clear();
        let mut one = Vec::new();
        for &index in &self.indices[first..first + count] {
            buffer.extend_from_slice(self.rows.read(index, 1, &mut one)?);
        }
        Ok(buffer)
    }
}

/// Checks that there are rows, and that every value is a finite number.
///
/// # Errors
/// If there are no rows, a row is empty or holds NaN or infinity, or the rows cannot be read.
pub fn check(rows: &dyn Rows) -> Result<()> {
    const BLOCK: usize = 1024;
    if rows.count() == 0 || rows.width() == 0 {
        let problem = format!("expected at least one vector of at least one channel, found {} of {}", rows.count(), rows.width());
        return Err(Error::option("features", problem));
    }
    let mut buffer = Vec::new();
    for first in (0..rows.count()).step_by(BLOCK) {
        let block = rows.read(first, BLOCK.min(rows.count() - first), &mut buffer)?;
        if let Some(at) = block.iter().position(|v| !v.is_finite()) {
            let (row, channel) = (first + at / rows.width(), at % rows.width());
            let problem =
                format!("expected finite numbers, found {} in channel {channel} of vector {row}; compute the features again", block[at]);
            return Err(Error::option("features", problem));
        }
    }
    Ok(())
}
