//! A temporary file of tensors, for a second pass over a volume's features, which may not fit into memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// An unnamed temporary file of tensors with one shape, deleted when dropped.
#[derive(Debug)]
pub struct TensorSpool {
    file: File,
    shape: Vec<usize>,
    count: usize,
    place: String,
}

impl TensorSpool {
    /// Creates a file in `folder` for tensors of `shape`.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn new(folder: &Path, shape: &[usize]) -> Result<Self> {
        let place = format!("a temporary file in {}", folder.display());
        let file = tempfile::tempfile_in(folder).map_err(|e| Error::output(&place, e))?;
        Ok(Self { file, shape: shape.to_vec(), count: 0, place })
    }

    /// Appends a tensor.
    ///
    /// # Errors
    /// If the disk is full or fails.
    ///
    /// # Panics
    /// If the shape of the tensor differs from the spool's.
    pub fn push(&mut self, tensor: &Tensor) -> Result<()> {
        assert_eq!(tensor.shape(), self.shape);
        self.file.write_all(bytemuck::cast_slice(tensor.data())).map_err(|e| Error::output(&self.place, e))?;
        self.count += 1;
        Ok(())
    }

    /// Passes each tensor to `visit`, in the order in which they were appended.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn each(mut self, mut visit: impl FnMut(&Tensor)) -> Result<()> {
        let fail = |e| Error::output(&self.place, e);
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        let mut tensor = Tensor::zeros(self.shape);
        for _ in 0..self.count {
            self.file.read_exact(bytemuck::cast_slice_mut(tensor.data_mut())).map_err(fail)?;
            visit(&tensor);
        }
        Ok(())
    }
}
